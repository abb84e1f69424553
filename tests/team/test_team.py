"""A short version of the team's scenario; `python -m tests.team` is the long one."""

from collections import Counter

import pytest

from tests.shared_state import needs_server
from tests.soak.__main__ import Seen
from tests.team import __main__ as team
from tests.team.__main__ import Phase, report, run


@needs_server
def test_a_team_loses_no_turn(capsys: pytest.CaptureFixture[str]) -> None:
    is_good = run(seconds=6, clients=6)
    table = capsys.readouterr().out
    assert is_good, table
    assert "rolling restart" in table
    assert "store killed" in table


def test_without_a_store_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "SERVER", None)
    # The other test restarts them.
    monkeypatch.setattr(team, "restart_all", lambda _servers: None)
    assert run(seconds=1, clients=3)
    table = capsys.readouterr().out
    assert table.startswith("neither redis-server nor valkey-server is on PATH")
    assert "store killed" not in table


def test_a_lost_turn_or_a_refused_connection_fails_it(capsys: pytest.CaptureFixture[str]) -> None:
    def phase(**seen: object) -> Phase:
        return Phase("a phase", 1.0, Seen(turns=1, seconds=[0.1], **seen))  # type: ignore[arg-type]  # by name

    assert report([phase()], [], has_store=False)
    for bad in (
        phase(lost=["529"]),
        phase(wrong=["x"]),
        phase(errors=Counter({"ConnectError before an answer": 1})),
    ):
        assert not report([phase(), bad], [], has_store=False)
    assert not report([Phase("nothing")], [], has_store=False)
    assert "FAILED" in capsys.readouterr().out
