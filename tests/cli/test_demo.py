"""`demo`: the first thing a newcomer sees."""

from ccfallback.simulator.demo import ANSWER
from tests.cli.conftest import Run


def test_the_output_ends_with_the_answer(ccf: Run) -> None:
    ran = ccf("demo")
    assert ran.code == 0
    assert ANSWER in ran.out
    assert "529 overloaded_error" in ran.out
    assert "answered by spare" in ran.out


def test_json_is_one_document(ccf: Run) -> None:
    result = ccf("demo", "--json").json
    assert result["ok"] is True
    assert (result["provider"], result["attempts"], result["status"]) == ("spare", 2, 200)
