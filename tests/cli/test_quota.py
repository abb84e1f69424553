"""`quota`, and the windows of the plan in `status`, `top` and the status line."""

import time
from collections.abc import Callable

import msgspec
import pytest

from ccfallback.cli.statusline_view import Window, format_windows
from ccfallback.config.model import Config, Quota
from ccfallback.paths import Paths
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.policy.quota import Reading, add_reading, read_quota
from ccfallback.state.file import StateFile
from ccfallback.state.quotas import QUOTAS, quota_key
from ccfallback.state.sections import Entry
from tests.cli.conftest import NOW, Run

HOUR = 3600.0
RULES = "[quota]\nswitch_at = 0.95\nspare_from = 0.7\n"


def unified(now: float, used: float, **more: str) -> dict[str, str]:
    found = {
        "status": "allowed",
        "representative-claim": "five_hour",
        "5h-utilization": f"{used:.4f}",
        "5h-reset": str(round(now // HOUR * HOUR + 2 * HOUR)),
        "5h-status": "allowed",
        "7d-utilization": "0.31",
        "7d-reset": str(round(now // HOUR * HOUR + 80 * HOUR)),
        "7d-status": "allowed",
        **more,
    }
    return {f"anthropic-ratelimit-unified-{name}": value for name, value in found.items()}


def keep(paths: Paths, login: str, reading: Reading) -> None:
    key = quota_key(fingerprint(Config().primary), login)
    StateFile(paths.state).update(lambda states: states, [Entry(QUOTAS, key, reading)])


def rising(now: float, rules: Quota, last: float = 0.82) -> Reading:
    """Readings of the last 40 minutes: the 5-hour window rises by 24 points in an hour."""
    found: Reading | None = None
    for minute in range(-40, 1, 5):
        at = now + minute * 60 - 60
        new = read_quota(unified(now, last + 0.24 * minute / 60), at)
        assert new is not None
        found = add_reading(found, new, rules)
    assert found is not None
    return found


def refused(now: float) -> Reading:
    headers = unified(now, 1.0, **{"5h-status": "rejected", "status": "rejected"})
    new = read_quota(headers, now - 120)
    assert new is not None
    return add_reading(None, new, Quota())


def test_without_a_reading_nothing_is_invented(ccf: Run) -> None:
    ran = ccf("quota")
    assert ran.code == 0
    assert "no answer of the primary has said anything" in ran.out
    found = ccf("quota", "--json").json
    assert (found["windows"], found["logins"]) == ([], [])
    assert found["provider"] == "anthropic-primary"
    assert "login" not in ccf("status").out


@pytest.mark.parametrize("columns", [80, 140])
def test_the_screen(
    columns: int,
    paths: Paths,
    configure: Callable[[str], None],
    ccf_screen: Callable[..., str],
    golden: Callable[[str, str], None],
) -> None:
    configure(RULES)
    keep(paths, "fedcba9876543210", refused(NOW))
    keep(paths, "0123456789abcdef", rising(NOW, Quota(switch_at=0.95, spare_from=0.7)))
    golden(f"quota-{columns}.txt", ccf_screen("quota", columns=columns))


def test_json_has_times_in_milliseconds_and_the_latest_login_first(
    paths: Paths, configure: Callable[[str], None], ccf: Run
) -> None:
    configure(RULES)
    now = time.time()
    keep(paths, "0123456789abcdef", rising(now, Quota(switch_at=0.95, spare_from=0.7)))
    keep(paths, "fedcba9876543210", refused(now))
    found = ccf("quota", "--json").json
    first, second = found["logins"]
    assert (first["login"], second["login"]) == ("0123456789abcdef", "fedcba9876543210")
    assert found["windows"] == first["windows"]
    five, week = first["windows"]
    assert (five["window"], five["utilization"], week["window"]) == ("5h", 0.82, "7d")
    assert now * 1000 < five["fullAt"] < five["resetsAt"]
    assert five["fullAt"] == pytest.approx((now + 0.18 / 0.24 * HOUR) * 1000, abs=300_000)
    assert week["fullAt"] is None
    assert (first["action"], first["spared"]) == ("use", ["subagent", "workflow", "auxiliary"])
    assert second["refusedUntil"] == second["windows"][0]["resetsAt"]
    assert (found["switchAt"], found["spareFrom"]) == (0.95, 0.7)


def test_status_and_top_show_the_windows(
    paths: Paths, configure: Callable[[str], None], ccf: Run
) -> None:
    configure(RULES)
    keep(paths, "0123456789abcdef", rising(time.time(), Quota(), last=0.5))
    for command in ("status", "top"):
        out = ccf(command).out
        assert "5h █████░░░░░  50 %, resets " in out, command
        (login,) = ccf(command, "--json").json["quotas"]
        assert login["windows"][0]["utilization"] == 0.5


def test_readings_of_another_server_do_not_count(
    paths: Paths, configure: Callable[[str], None], ccf: Run
) -> None:
    keep(paths, "0123456789abcdef", rising(time.time(), Quota()))
    configure('[primary]\nbase_url = "https://other.example"\n')
    assert ccf("quota", "--json").json["logins"] == []


def test_the_status_line_says_how_much_of_windows_is_left() -> None:
    soon, reset = round((NOW + 1800) * 1000), round((NOW + 3600) * 1000)
    full = Window("5h", 0.82, reset, soon)
    later = Window("7d", 0.31, reset, reset + 1)
    assert format_windows([full, later], NOW)[1].text == "7d 69 % left"
    assert format_windows([full], NOW)[0].text.startswith("5h 18 % left, full ")
    assert format_windows([Window("7d_opus", 0.9), Window("5h"), Window("overage", 1.0)], NOW) == []


def test_the_health_page_and_the_metrics_tell_the_windows(
    paths: Paths, running: Callable[[str], object]
) -> None:
    import httpx

    keep(paths, "0123456789abcdef", rising(time.time(), Quota()))
    url = running("").url  # type: ignore[attr-defined]  # a RunningProxy
    primary = httpx.get(f"{url}/health").json()["providers"][0]
    assert [each["window"] for each in primary["quota"]["windows"]] == ["5h", "7d"]
    assert "0123456789abcdef" not in msgspec.json.encode(primary).decode()
    page = httpx.get(f"{url}/metrics").text
    labels = 'login="0123456789abcdef",provider="anthropic-primary",window="5h"'
    assert f"ccfallback_quota_utilization{{{labels}}} 0.82" in page
    assert f"ccfallback_quota_reset_time_seconds{{{labels}}}" in page


def test_a_primary_that_is_skipped_for_its_plan_does_not_serve(
    paths: Paths, running: Callable[[str], object], ccf: Run
) -> None:
    rules = Quota(switch_at=0.5)
    keep(paths, "0123456789abcdef", rising(time.time(), rules))
    running(
        "[server]\nport = 0\n[quota]\nswitch_at = 0.5\n"
        '[[providers]]\nname = "spare"\nbase_url = "http://127.0.0.1:9"\napi_key = "k"\n'
    )
    assert ccf("statusline", "--json").json["serving"] == "spare"
    words = {each["name"]: each["state"] for each in ccf("top", "--json").json["providers"]}
    assert words["anthropic-primary"] == "closed"
    assert "fallbacks first until" in ccf("top").out


def test_without_a_reading_the_text_fits_the_screen(ccf_screen: Callable[..., str]) -> None:
    assert max(map(len, ccf_screen("quota", columns=60).splitlines())) <= 60
