"""`drill`: its table, its JSON, its exit code."""

from collections.abc import Callable

from ccfallback.paths import Paths
from ccfallback.simulator.faults import FAULTS
from tests.cli.conftest import Run

KEYS = {"id", "lost", "provider", "attempts", "seconds", "client_sees"}


def test_the_configured_chain_is_tested_and_no_file_changes(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "https://spare.invalid"\n'
        'api_key_command = ["this-program-is-never-run"]\n'
        '[[providers]]\nname = "off"\nbase_url = "https://off.invalid"\ndisabled = true\n'
    )
    ran = ccf("drill", "--json")
    assert ran.code == 0
    result = ran.json
    assert result["ok"] is True
    assert [each["name"] for each in result["chain"]] == ["anthropic-primary", "spare"]
    assert all(each.keys() >= KEYS for each in result["faults"])
    assert len(result["faults"]) > len(FAULTS)
    assert not paths.state.exists()
    assert not paths.log.exists()


def test_a_lost_turn_fails_and_says_what_to_change(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure(
        '[failover]\non = ["429"]\n[[providers]]\nname = "spare"\nbase_url = "http://a.invalid"\n'
    )
    ran = ccf("drill")
    assert ran.code == 1
    assert "LOST: 500" in ran.out
    assert "failover.on" in ran.err
    assert "cut-in-text" in ran.out


def test_without_an_enabled_provider_it_fails(ccf: Run, configure: Callable[[str], None]) -> None:
    configure("[primary]\ndisabled = true\n")
    ran = ccf("drill")
    assert ran.code == 1
    assert "no provider is enabled" in ran.err
