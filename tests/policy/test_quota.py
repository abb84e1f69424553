"""The plan's windows: what headers say, how readings age, when they are full, what follows."""

import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Quota
from ccfallback.policy import quota
from ccfallback.policy.quota import (
    Action,
    Grace,
    Overage,
    Reading,
    Slow,
    Window,
    add_reading,
    current_windows,
    decide,
    forecast,
    is_active,
    may_return,
    read_quota,
    refused_until,
    returned_by,
    returns,
)
from ccfallback.policy.quota_report import make_reports

NOW = 1_795_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def unified(values: Mapping[str, str]) -> dict[str, str]:
    return {f"anthropic-ratelimit-unified-{name}": value for name, value in values.items()}


def quota_of(values: Mapping[str, str], now: float = NOW) -> Reading:
    found = read_quota(unified(values), now)
    assert found is not None
    return found


def windows(now: float = NOW, reset: float = NOW + HOUR, **used: float) -> Reading:
    """A reading of windows; `w5h=0.9` is the 5-hour window."""
    values: dict[str, str] = {"status": "allowed"}
    for name, utilization in used.items():
        window = name.removeprefix("w")
        values[f"{window}-utilization"] = str(utilization)
        values[f"{window}-reset"] = str(int(reset))
        values[f"{window}-status"] = "allowed"
    return quota_of(values, now)


# -- What headers say: a case for each row of their table


RESET = str(int(NOW + HOUR))
ROWS: list[tuple[dict[str, str], Callable[[Reading], Any], Any]] = [
    ({"status": "allowed_warning"}, lambda r: r.status, "allowed_warning"),
    ({"status": "queueing_soft"}, lambda r: r.status, "queueing_soft"),
    ({"reset": RESET}, lambda r: r.reset, NOW + HOUR),
    ({"representative-claim": "five_hour"}, lambda r: r.claim, "5h"),
    ({"representative-claim": "seven_day"}, lambda r: r.claim, "7d"),
    ({"representative-claim": "seven_day_overage_included"}, lambda r: r.claim, "7d_oi"),
    ({"representative-claim": "seven_day_opus"}, lambda r: r.claim, "7d_opus"),
    ({"representative-claim": "seven_day_sonnet"}, lambda r: r.claim, "7d_sonnet"),
    ({"representative-claim": "overage"}, lambda r: r.claim, "overage"),
    ({"representative-claim": "thirty_day"}, lambda r: r.claim, "thirty_day"),
    *(
        ({f"{name}-utilization": "1.25"}, lambda r, name=name: r.windows[name].utilization, 1.25)
        for name in ("5h", "7d", "7d_oi", "overage", "7d_opus", "7d_sonnet", "30d")
    ),
    ({"5h-reset": RESET}, lambda r: r.windows["5h"].reset, NOW + HOUR),
    ({"7d-status": "rejected"}, lambda r: r.windows["7d"].status, "rejected"),
    ({"7d-surpassed-threshold": "0.75"}, lambda r: r.windows["7d"].threshold, 0.75),
    ({"fallback": "available"}, lambda r: r.fallback, "available"),
    ({"fallback-percentage": "0.5"}, lambda r: r.fallback_percentage, 0.5),
    ({"overage-status": "allowed"}, lambda r: r.windows["overage"].status, "allowed"),
    ({"overage-reset": RESET}, lambda r: r.windows["overage"].reset, NOW + HOUR),
    ({"overage-surpassed-threshold": "0.9"}, lambda r: r.windows["overage"].threshold, 0.9),
    (
        {
            "overage-in-use": "true",
            "overage-disabled-reason": "out_of_credits",
            "overage-scope": "group_pool",
            "overage-group": "eng",
            "overage-period": "monthly",
            "overage-period-monthly-utilization": "0.2",
            "overage-period-channel-utilization": "0.3",
            "overage-daily-cap-paused": "true",
        },
        lambda r: r.overage,
        Overage(
            in_use=True,
            disabled_reason="out_of_credits",
            scope="group_pool",
            group="eng",
            period="monthly",
            period_monthly_utilization=0.2,
            period_channel_utilization=0.3,
            daily_cap_paused=True,
        ),
    ),
    (
        {"grace-status": "allowed", "grace-5h-utilization": "1.1", "grace-7d-utilization": "0.4"},
        lambda r: (r.grace, r.windows),
        (Grace(status="allowed", utilization_5h=1.1, utilization_7d=0.4), {}),
    ),
    (
        {
            "slow-offer": "available",
            "slow-status": "allowed",
            "slow-retry-after": "30",
            "slow-max-wait": "600",
            "slow-budget-utilization": "0.1",
            "slow-budget-reset": RESET,
        },
        lambda r: (r.slow, r.windows),
        (
            Slow(
                offer="available",
                status="allowed",
                retry_after=30,
                max_wait=600,
                budget_utilization=0.1,
                budget_reset=NOW + HOUR,
            ),
            {},
        ),
    ),
    ({"upgrade-paths": "max_5x, max_20x"}, lambda r: r.upgrade_paths, ("max_5x", "max_20x")),
]


@pytest.mark.parametrize(("headers", "found", "expected"), ROWS)
def test_each_header_is_read(
    headers: dict[str, str], found: Callable[[Reading], Any], expected: Any
) -> None:
    assert found(quota_of(headers)) == expected


def test_an_answer_without_such_headers_says_nothing() -> None:
    assert read_quota({"anthropic-ratelimit-requests-limit": "5", "retry-after": "1"}, NOW) is None


@pytest.mark.parametrize("value", ["", "nan", "inf", "-1", "x", "1e99", "\x1b[2J", "1" * 400])
def test_a_value_that_makes_no_sense_is_as_good_as_none(value: str) -> None:
    names = ("5h-utilization", "5h-surpassed-threshold", "slow-max-wait", "fallback-percentage")
    found = quota_of({**dict.fromkeys(names, value), "status": "allowed"})
    assert found == Reading(at=NOW, status="allowed")


@given(
    st.dictionaries(
        st.sampled_from([*(f"{w}-{f}" for w in ("5h", "7d", "overage", "slow", "grace", "0d")
                           for f in ("utilization", "reset", "status", "in-use")),
                         "status", "reset", "representative-claim", "upgrade-paths", ""]),
        st.text(max_size=12) | st.sampled_from(["1", "0.5", "rejected", RESET, "five_hour"]),
        min_size=1,
    ),
    st.sampled_from([Quota(), Quota(switch_at=0.5, spare_from=0.25), Quota(switch_at=0.0)]),
)  # fmt: skip
def test_any_headers_are_read_without_an_error(values: dict[str, str], rules: Quota) -> None:
    found = add_reading(None, quota_of(values), rules)
    again = add_reading(found, quota_of(values, NOW + 60), rules)
    for now in (NOW + 60, NOW + 8 * DAY):
        decide(again, rules, now, model="claude-opus-5-5", request_class="main")
        refused_until(again, now)
        returns(again, now)
        for name, window in current_windows(again, now).items():
            forecast(name, window, now)
            assert quota.title(name)


def test_a_refusal_that_names_only_its_window_counts_for_that_window() -> None:
    headers = {"status": "rejected", "reset": RESET, "representative-claim": "five_hour"}
    found = quota_of(headers)
    assert found.windows["5h"] == Window(NOW, None, NOW + HOUR, "rejected")
    assert refused_until(found, NOW) == NOW + HOUR
    bare = quota_of({"status": "rejected", "reset": RESET})
    assert refused_until(bare, NOW) == NOW + HOUR
    assert refused_until(bare, NOW + HOUR) is None


def test_windows_are_usable_again_at_the_latest_reset_of_the_rejected_ones() -> None:
    later = str(int(NOW + DAY))
    rejected = {"5h-status": "rejected", "5h-reset": RESET, "7d-status": "rejected",
                "7d-reset": later, "status": "rejected"}  # fmt: skip
    found = quota_of(rejected)
    assert refused_until(found, NOW) == NOW + DAY
    assert refused_until(found, NOW + 2 * HOUR) == NOW + DAY
    assert refused_until(found, NOW + DAY) is None


@pytest.mark.parametrize("status", ["allowed", "allowed_warning", "rejected"])
def test_a_used_up_plan_with_paid_usage_still_serves(status: str) -> None:
    headers = {"status": "rejected", "5h-status": "rejected", "5h-reset": RESET}
    found = quota_of({**headers, "overage-status": status})
    assert found.uses_overage is (status != "rejected")
    assert (refused_until(found, NOW) is None) is found.uses_overage


# -- Ageing


def test_after_its_reset_nothing_of_a_window_is_used() -> None:
    found = windows(w5h=0.97)
    assert current_windows(found, NOW + HOUR - 1)["5h"].utilization == 0.97
    assert current_windows(found, NOW + HOUR)["5h"] == Window(NOW, 0.0)


def test_a_window_without_a_reset_ends_after_its_length() -> None:
    found = quota_of({"5h-utilization": "0.9", "overage-utilization": "0.4"})
    assert current_windows(found, NOW + 5 * HOUR - 1)["5h"].utilization == 0.9
    assert current_windows(found, NOW + 5 * HOUR)["5h"].utilization == 0.0
    assert current_windows(found, NOW + 99 * DAY)["overage"].utilization == 0.4


def test_a_plan_without_a_five_hour_window_has_none() -> None:
    ultra = add_reading(windows(w5h=0.99), windows(NOW + 60, w7d=0.2), Quota(switch_at=0.9))
    assert set(ultra.windows) == {"7d"}
    assert decide(ultra, Quota(switch_at=0.9), NOW + 60).action is Action.USE


def test_windows_of_other_models_and_those_that_paid_usage_hides_are_kept() -> None:
    rules = Quota()
    found = add_reading(windows(w5h=0.99, w7d_opus=0.5), windows(NOW + 60, w5h=1.0), rules)
    assert set(found.windows) == {"5h", "7d_opus"}
    paid = quota_of({"status": "rejected", "overage-in-use": "true"}, NOW + 120)
    found = add_reading(found, paid, rules)
    assert set(found.windows) == {"5h", "7d_opus"}
    assert found.windows["5h"].at == NOW + 60
    assert set(add_reading(found, windows(NOW + 2 * HOUR, w7d=0.1), rules).windows) == {"7d"}


# -- Forecast


def history(
    use: Callable[[float], float],
    name: str = "5h",
    *,
    seconds: float = 50 * 60,
    every: float = 60.0,
    digits: int = 6,
) -> tuple[Window, float]:
    """A window after answers that came for so long, and the time of the last."""
    found: Reading | None = None
    began, length = NOW, quota.length(name) or 0.0
    now = began
    while now <= began + seconds:
        used = round(use(now - began), digits)
        new = windows(now, began + length * 0.8, **{f"w{name}": used})
        found = add_reading(found, new, Quota())
        now += every
    assert found is not None
    return found.windows[name], now - every


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.4, 0.9])
@pytest.mark.parametrize("every", [5.0, 30.0, 240.0])
@pytest.mark.parametrize("digits", [2, 4])
def test_a_steady_use_is_forecast_within_a_tenth(rate: float, every: float, digits: int) -> None:
    window, now = history(lambda t: 0.05 + rate * t / HOUR, every=every, digits=digits)
    found = forecast("5h", window, now)
    assert found is not None
    full = NOW + 0.95 / rate * HOUR
    assert found.full_at - now == pytest.approx(full - now, rel=0.1)
    assert found.at_reset is not None
    at_reset = 0.05 + rate * 4
    assert found.at_reset == pytest.approx(at_reset, rel=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_bursts_and_noise_are_forecast_within_a_tenth(seed: int) -> None:
    rng = random.Random(seed)
    steps = [0.0]
    for _ in range(60):
        steps.append(steps[-1] + 0.006 * rng.uniform(0.6, 1.4))
    window, now = history(lambda t: 0.1 + steps[int(t // 60)], seconds=59 * 60)
    found = forecast("5h", window, now)
    assert found is not None
    assert window.utilization is not None
    assert found.full_at - now == pytest.approx((1 - window.utilization) / 0.006 * 60, rel=0.1)


def test_a_week_is_forecast_from_a_day_and_more() -> None:
    window, now = history(lambda t: 0.1 + 0.1 * t / DAY, "7d", seconds=1.3 * DAY, every=600)
    found = forecast("7d", window, now)
    assert found is not None
    assert found.full_at - NOW == pytest.approx(9 * DAY, rel=0.05)
    assert len(window.points) <= quota.MOST_POINTS


def test_a_change_of_pace_is_seen_within_the_hour() -> None:
    def use(t: float) -> float:
        return 0.1 * min(t, 2 * HOUR) / HOUR + 0.4 * max(0.0, t - 2 * HOUR) / HOUR

    window, now = history(use, seconds=3 * HOUR)
    found = forecast("5h", window, now)
    assert found is not None
    assert found.full_at - now == pytest.approx(0.4 / 0.4 * HOUR, rel=0.1)


def test_a_pause_delays_the_forecast() -> None:
    window, now = history(lambda t: 0.3 * t / HOUR)
    found, later = forecast("5h", window, now), forecast("5h", window, now + 20 * 60)
    assert found is not None
    assert later is not None
    assert later.full_at > found.full_at + 20 * 60


@pytest.mark.parametrize(
    ("use", "seconds", "every"),
    [
        pytest.param(lambda t: 0.5, 3000.0, 60.0, id="stands still"),
        pytest.param(lambda t: 0.5 - 0.1 * t / HOUR, 3000.0, 60.0, id="falls"),
        pytest.param(lambda t: 0.5 + 0.02 * t / 3000, 3000.0, 60.0, id="hardly rises"),
        pytest.param(lambda t: 0.5 + 0.4 * t / HOUR, 0.0, 60.0, id="one reading"),
        pytest.param(lambda t: 0.5 + 0.4 * t / HOUR, 2400.0, 1200.0, id="three readings"),
        pytest.param(lambda t: 0.1 + 4.0 * t / HOUR, 300.0, 10.0, id="five minutes"),
        pytest.param(lambda t: 1.0 + 0.1 * t / HOUR, 3000.0, 60.0, id="full already"),
    ],
)
def test_there_is_no_forecast(use: Callable[[float], float], seconds: float, every: float) -> None:
    window, now = history(use, seconds=seconds, every=every)
    assert forecast("5h", window, now) is None


def test_there_is_no_forecast_after_the_reset_or_an_hour_of_silence() -> None:
    window, now = history(lambda t: 0.3 * t / HOUR)
    assert forecast("5h", window, NOW + 4 * HOUR) is None
    assert forecast("5h", window, now + 2 * HOUR) is None


def test_paid_usage_is_forecast_if_its_period_is_known() -> None:
    points = tuple((NOW + hour * HOUR, 0.1 + 0.05 * hour) for hour in range(5))
    window = Window(NOW + 4 * HOUR, 0.3, points=points)
    assert forecast("overage", window, NOW + 4 * HOUR) is None
    found = forecast("overage", window, NOW + 4 * HOUR, "daily")
    assert found is not None
    assert found.full_at == pytest.approx(NOW + 18 * HOUR)
    assert found.at_reset is None


# -- Decision


SWITCH = Quota(switch_at=0.9, spare_from=0.7)


def after(*used: float, rules: Quota = SWITCH, window: str = "5h") -> Reading:
    found: Reading | None = None
    for number, utilization in enumerate(used):
        new = windows(NOW + number, **{f"w{window}": utilization})
        found = add_reading(found, new, rules)
    assert found is not None
    return found


def action(reading: Reading, rules: Quota = SWITCH, kind: str = "main", **more: Any) -> Action:
    return decide(reading, rules, NOW + 100, request_class=kind, **more).action


@pytest.mark.parametrize(
    ("used", "main", "subagent"),
    [
        ([0.5], Action.USE, Action.USE),
        ([0.7], Action.USE, Action.SPARE),
        ([0.89], Action.USE, Action.SPARE),
        ([0.9], Action.SKIP, Action.SKIP),
        ([1.2], Action.SKIP, Action.SKIP),
        ([0.9, 0.86], Action.SKIP, Action.SKIP),
        ([0.9, 0.85], Action.USE, Action.SPARE),
        ([0.9, 0.84, 0.88], Action.USE, Action.SPARE),
        ([0.7, 0.66], Action.USE, Action.SPARE),
        ([0.7, 0.65], Action.USE, Action.USE),
    ],
)
def test_thresholds_have_hysteresis(used: list[float], main: Action, subagent: Action) -> None:
    reading = after(*used)
    assert action(reading) is main
    assert action(reading, kind="subagent") is subagent
    assert action(reading, kind="") is main


def test_at_the_reset_the_primary_is_used_again() -> None:
    reading = after(0.95)
    decision = decide(reading, SWITCH, NOW + 60)
    assert decision[:] == (Action.SKIP, "5h", 0.95, NOW + HOUR)
    assert decision.why == "the 5-hour window is 95 % used"
    assert decide(reading, SWITCH, NOW + HOUR).action is Action.USE


def test_by_default_only_a_refusal_moves_requests() -> None:
    assert action(after(1.0, rules=Quota()), Quota(), "subagent") is Action.USE
    assert not quota.is_active(Quota())
    assert quota.is_active(SWITCH)


def test_only_classes_that_are_named_are_spared() -> None:
    rules = Quota(spare_from=0.5, spare_classes=("compaction",))
    assert action(after(0.6, rules=rules), rules, "compaction") is Action.SPARE
    assert action(after(0.6, rules=rules), rules, "subagent") is Action.USE


@pytest.mark.parametrize(
    ("window", "model", "expected"),
    [
        ("7d_opus", "claude-opus-5-5", Action.SKIP),
        ("7d_opus", "claude-sonnet-5-5", Action.USE),
        ("7d_sonnet", "claude-sonnet-5-5", Action.SKIP),
        ("7d_oi", "claude-fable-5-1", Action.SKIP),
        ("7d_oi", "claude-opus-5-5", Action.USE),
        ("7d", "claude-haiku-5-5", Action.SKIP),
        ("overage", "claude-opus-5-5", Action.USE),
        ("7d_opus", "", Action.USE),
    ],
)
def test_a_window_counts_for_its_models(window: str, model: str, expected: Action) -> None:
    assert action(after(0.95, window=window), model=model) is expected


def test_the_window_that_resets_last_decides() -> None:
    found = windows(w5h=0.99, w7d=0.95)
    week = found.windows["7d"]
    later = Window(week.at, week.utilization, NOW + DAY, week.status)
    found = add_reading(None, Reading(at=NOW, windows={**found.windows, "7d": later}), SWITCH)
    assert decide(found, SWITCH, NOW)[1:] == ("7d", 0.95, NOW + DAY)
    assert decide(found, SWITCH, NOW + HOUR)[1:] == ("7d", 0.95, NOW + DAY)


@given(st.lists(st.floats(0, 1.5), min_size=1, max_size=20), st.floats(0.06, 0.99))
def test_the_primary_never_returns_above_the_lower_threshold(
    used: list[float], threshold: float
) -> None:
    rules = Quota(switch_at=threshold)
    skipped = False
    found: Reading | None = None
    for number, utilization in enumerate(used):
        found = add_reading(found, windows(NOW + number, w5h=utilization), rules)
        was, skipped = skipped, decide(found, rules, NOW + number).action is Action.SKIP
        if utilization >= threshold:
            assert skipped
        elif utilization <= threshold - quota.HYSTERESIS - 1e-6:
            assert not skipped
        elif threshold - utilization > 1e-6 and utilization - threshold + 0.05 > 1e-6:
            assert skipped is was


# -- Return


def test_after_a_switch_sessions_return_one_after_the_other() -> None:
    reading = after(0.95)
    back = NOW + HOUR
    assert returns(reading, back - 1) is None
    assert returns(reading, back) == (back, 120.0)
    assert returns(reading, back + 120) is None
    returned: set[str] = set()
    counts = []
    for second in range(120):
        for session in map(str, range(40)):
            if may_return(back, 120.0, back + second, returned, session):
                returned.add(session)
        counts.append(len(returned))
    assert counts[0] == 1
    assert counts[59] == 13
    assert all(later - earlier <= 1 for earlier, later in pairwise(counts))
    # Answers that come meanwhile do not end it.
    new = add_reading(reading, windows(back + 5, back + 5 * HOUR, w5h=0.01), SWITCH)
    assert returns(new, back + 10) == (back, 120.0)
    assert returns(new, back + 120) is None


def test_sessions_return_after_a_refusal_too_but_not_longer_than_it_was() -> None:
    headers = {"status": "rejected", "5h-status": "rejected", "5h-reset": str(int(NOW + 3))}
    refused = add_reading(None, quota_of(headers), Quota())
    assert returns(refused, NOW + 3) == (NOW + 3, 3.0)
    assert returns(refused, NOW + 6) is None
    paid = add_reading(None, quota_of({**headers, "overage-status": "allowed"}), Quota())
    assert returns(paid, NOW + 3) is None


def test_sessions_return_one_after_the_other_if_the_use_falls() -> None:
    found = add_reading(after(0.95), windows(NOW + 600, w5h=0.2), SWITCH)
    assert returns(found, NOW + 601) == (NOW + 600, 120.0)


def test_nothing_returns_where_nothing_was_skipped() -> None:
    found = windows(w5h=0.5)
    assert returns(found, NOW + HOUR) is None


# -- At the edges


@pytest.mark.parametrize(
    ("value", "number"), [("0", 0.0), ("1e9", None), ("999999999.5", 999999999.5), ("-0.1", None)]
)
def test_a_number_has_a_sensible_size(value: str, number: float | None) -> None:
    found = read_quota(unified({"status": "allowed", "5h-utilization": value}), NOW)
    assert found is not None
    window = found.windows.get("5h")
    assert (None if window is None else window.utilization) == number


def test_one_senseless_header_hides_no_other_of_its_group() -> None:
    found = quota_of({"overage-in-use": "perhaps", "overage-group": "eng", "overage-scope": "<x>"})
    assert found.overage == Overage(group="eng")


def test_a_refusal_is_the_window_that_says_so_not_the_claim() -> None:
    values = {
        "status": "rejected",
        "representative-claim": "five_hour",
        "5h-utilization": "0.5",
        "7d-status": "rejected",
    }
    found = quota_of(values)
    assert found.windows["5h"].status == ""
    assert found.windows["7d"].status == "rejected"


def test_a_window_of_one_model_leaves_those_of_the_plan() -> None:
    both = windows(w5h=0.4, w7d=0.2)
    found = add_reading(both, windows(NOW + 1, w7d_opus=0.5), SWITCH)
    assert set(found.windows) == {"5h", "7d", "7d_opus"}


def test_a_window_ends_at_the_moment_of_its_reset() -> None:
    found = add_reading(windows(w5h=0.95), windows(NOW + HOUR, NOW + 9 * HOUR, w7d=0.2), SWITCH)
    assert set(found.windows) == {"7d"}


@pytest.mark.parametrize(
    ("switch", "spare", "active"),
    [(1.0, 1.0, False), (0.9, 1.0, True), (1.0, 0.9, True), (0.9, 0.9, True)],
)
def test_without_thresholds_nothing_is_decided(switch: float, spare: float, active: bool) -> None:
    assert is_active(Quota(switch_at=switch, spare_from=spare)) is active


def test_a_decision_says_its_reason() -> None:
    used = after(0.95)
    assert decide(used, SWITCH, NOW + 1).why == "the 5-hour window is 95 % used"
    spare = Quota(spare_from=0.5)
    found = decide(after(0.6, rules=spare), spare, NOW + 1, request_class="subagent")
    assert found.why.startswith("the 5-hour window is 60 % used, and")
    assert decide(after(0.1), SWITCH, NOW + 1).why == ""


def test_a_forecast_needs_a_fifth_of_the_window() -> None:
    # An hour of a 5-hour window is looked at; its ends count.
    def use(*points: tuple[float, float]) -> Window:
        return Window(NOW, points[-1][1], points=tuple((NOW + at, used) for at, used in points))

    steps = (-HOUR, -0.6 * HOUR, -0.3 * HOUR, 0.0)
    found = forecast("5h", use(*((at, 0.3 + 0.2 * at / HOUR) for at in steps)), NOW)
    assert found is not None
    assert found.full_at == pytest.approx(NOW + 3.5 * HOUR)
    assert found.at_reset is None
    early = use((-HOUR - 1, 0.1), *((at, 0.3 + 0.2 * at / HOUR) for at in steps[1:]))
    assert forecast("5h", early, NOW) is None
    assert forecast("5h", use(*((at, 0.3 - 0.2 * at / HOUR) for at in steps)), NOW) is None
    assert forecast("5h", use(*((at, 1.0 + 0.2 * at / HOUR) for at in steps)), NOW) is None
    # Ten minutes of readings are enough, and three percent.
    short = [(-600.0, 0.0), (-400.0, 0.01), (-200.0, 0.02), (0.0, 0.03)]
    assert forecast("5h", use(*short), NOW) is not None
    assert forecast("5h", use((-599.0, 0.0), *short[1:]), NOW) is None
    assert forecast("5h", use((-600.0, 0.001), *short[1:]), NOW) is None


def test_all_have_returned_some_time_after_the_last_reset() -> None:
    switched = after(0.95)
    end = switched.windows["5h"].reset
    assert end is not None
    assert returned_by(switched) == end + quota.RETURN_SECONDS
    assert returned_by(after(0.1)) == quota.RETURN_SECONDS
    back = msgspec.structs.replace(after(0.1), back=NOW)
    assert returned_by(back) == NOW + quota.RETURN_SECONDS
    assert returned_by(msgspec.structs.replace(switched, back=NOW)) == end + quota.RETURN_SECONDS


# -- What is reported


def test_a_report_says_what_the_policy_does() -> None:
    older = windows(NOW - 60, w5h=0.2)
    values = {
        "status": "allowed_warning",
        "representative-claim": "five_hour",
        "7d_opus-utilization": "0.3",
        "7d-utilization": "0.25",
        "5h-utilization": "0.95",
        "5h-reset": RESET,
        "5h-status": "allowed_warning",
        "overage-status": "allowed",
        "upgrade-paths": "max, team",
        "fallback": "available",
    }
    rules = Quota(switch_at=0.9, spare_from=0.2, spare_classes=("subagent",))
    newer = add_reading(None, quota_of(values), rules)
    report, other = make_reports({"old": older, "new": newer}, rules, NOW + 1)
    assert (report.login, other.login) == ("new", "old")
    assert report.read_at == NOW * 1000
    assert (report.status, report.claim, report.fallback) == ("allowed_warning", "5h", "available")
    assert [each.window for each in report.windows] == ["5h", "7d", "7d_opus", "overage"]
    first = report.windows[0]
    assert (first.title, first.utilization, first.status) == (
        "5-hour window",
        0.95,
        "allowed_warning",
    )
    assert (first.resets_at, first.read_at) == ((NOW + HOUR) * 1000, NOW * 1000)
    assert (first.full_at, first.utilization_at_reset) == (None, None)
    assert report.windows[1].resets_at is None
    assert (report.action, report.spared) == ("skip", [])
    assert report.until == (NOW + HOUR) * 1000
    assert report.why == "the 5-hour window is 95 % used"
    assert report.refused_until is None
    assert not report.paid
    assert report.upgrade_paths == ["max", "team"]
    # The other one only spares.
    assert (other.action, other.spared) == ("use", ["subagent"])


def test_a_report_says_since_when_the_plan_refuses_and_when_a_window_is_full() -> None:
    reading = quota_of({"5h-status": "rejected", "5h-reset": RESET, "status": "rejected"})
    [report] = make_reports({"a": reading}, Quota(), NOW)
    assert report.refused_until == (NOW + HOUR) * 1000
    assert (report.action, report.until, report.why) == ("use", None, "")
    window, now = history(lambda at: 0.1 + 0.1 * at / HOUR)
    [report] = make_reports({"a": Reading(at=now, windows={"5h": window})}, Quota(), now)
    [shown] = report.windows
    assert shown.full_at is not None
    assert shown.full_at / 1000 == pytest.approx(NOW + 9 * HOUR, rel=0.1)
    assert shown.utilization_at_reset == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("used", "switched"),
    [((0.89,), False), ((0.9,), True), ((0.9, 0.86), True), ((0.9, 0.85), False)],
)
def test_a_switch_is_kept_down_to_the_lower_threshold(
    used: tuple[float, ...], switched: bool
) -> None:
    assert after(*used).windows["5h"].switched is switched
    spare = Quota(spare_from=0.9)
    assert after(*used, rules=spare).windows["5h"].spared is switched
    assert not after(*used, rules=Quota()).windows["5h"].switched


def test_a_claim_or_word_that_is_not_safe_is_as_good_as_none() -> None:
    found = quota_of({"representative-claim": "<x>", "status": "<y>", "upgrade-paths": "a,<b>,c"})
    assert (found.claim, found.status, found.upgrade_paths) == ("", "", ("a", "c"))
    many = quota_of({"upgrade-paths": ",".join(f"p{number}" for number in range(12))})
    assert many.upgrade_paths == tuple(f"p{number}" for number in range(8))
    assert quota.title("overage") == "paid usage"
    assert quota.title("other") == "window other"


def test_the_number_of_windows_has_a_limit() -> None:
    values = {f"{number}h-utilization": "0.5" for number in range(1, 60)}
    assert len(quota_of(values).windows) == quota._MOST_WINDOWS


def test_a_refused_claim_counts_beside_windows_that_are_allowed() -> None:
    values = {
        "status": "rejected",
        "representative-claim": "five_hour",
        "7d-status": "allowed",
    }
    assert quota_of(values).windows["5h"].status == "rejected"


def test_a_window_of_a_model_ends_at_its_reset_too() -> None:
    old = windows(w7d_opus=0.95)
    found = add_reading(old, windows(NOW + HOUR, NOW + 9 * HOUR, w5h=0.2), SWITCH)
    assert set(found.windows) == {"5h"}


def test_a_window_of_another_model_spares_nothing() -> None:
    rules = Quota(spare_from=0.5)
    reading = add_reading(None, windows(w7d_opus=0.7), rules)
    given = {"request_class": "subagent"}
    assert decide(reading, rules, NOW, model="claude-opus-5", **given).action is Action.SPARE
    assert decide(reading, rules, NOW, model="claude-sonnet-5", **given).action is Action.USE


def test_readings_are_thinned_out_and_old_ones_forgotten() -> None:
    spacing = 5 * HOUR * quota.LOOK_BACK / (quota.MOST_POINTS - 2)
    found = windows(NOW, NOW + 5 * HOUR, w5h=0.1)
    for number in range(1, 4):
        at = NOW + number * spacing / 2
        found = add_reading(found, windows(at, NOW + 5 * HOUR, w5h=0.1 + number / 100), Quota())
    times = [at - NOW for at, _ in found.windows["5h"].points]
    assert times == pytest.approx([0, spacing, 1.5 * spacing], abs=1)
    for number in range(60):
        at = NOW + 2 * spacing + number * 1.01 * spacing
        found = add_reading(found, windows(at, NOW + 5 * HOUR, w5h=0.2 + number / 100), Quota())
    points = found.windows["5h"].points
    assert len(points) <= quota.MOST_POINTS
    assert points[0][0] >= points[-1][0] - HOUR
    assert points[1][0] - points[0][0] == pytest.approx(1.01 * spacing, abs=1)
    # A clock that was set back takes later readings away.
    earlier = add_reading(found, windows(NOW + HOUR / 2, NOW + 5 * HOUR, w5h=0.9), Quota())
    assert all(at <= NOW + HOUR / 2 for at, _ in earlier.windows["5h"].points)
