import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("options", [("--port", "65536"), ("--port", "x"), ("--log-level", "loud")])
def test_a_bad_option_is_wrong_usage(ccf: Run, options: tuple[str, ...]) -> None:
    assert ccf("serve", *options).code == 2
