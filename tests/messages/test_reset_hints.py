"""Reset hints and durations."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.reset_hints import (
    body_hint,
    duration,
    only_model_window_rejected,
    reset_hint,
    retry_after,
)

NOW = 1_700_000_000.0

UNIFIED = "anthropic-ratelimit-unified-"


def until(headers: dict[str, str], message: str, now: float) -> float | None:
    """The time of the hint, without its source."""
    hint = reset_hint(headers, message, now)
    return None if hint is None else hint.until


def windows(**values: Any) -> dict[str, str]:
    return {f"{UNIFIED}{name}".replace("__", "-"): str(value) for name, value in values.items()}


REJECTED = windows(status="rejected")

HINTS: list[tuple[str, dict[str, str], float | None]] = [
    ("nothing said", {}, None),
    ("seconds", {"retry-after": "30"}, 30),
    ("seconds with space", {"retry-after": " 30 "}, 30),
    ("parts of a second", {"retry-after": "1.5"}, 1.5),
    ("at once is not said", {"retry-after": "0"}, None),
    ("negative is not said", {"retry-after": "-30"}, None),
    ("garbage", {"retry-after": "soon"}, None),
    ("empty", {"retry-after": ""}, None),
    ("not a number", {"retry-after": "nan"}, None),
    ("infinite", {"retry-after": "inf"}, None),
    ("milliseconds", {"retry-after-ms": "1500"}, 1.5),
    ("milliseconds before seconds", {"retry-after-ms": "1500", "retry-after": "30"}, 1.5),
    ("bad milliseconds, good seconds", {"retry-after-ms": "x", "retry-after": "30"}, 30),
    ("past milliseconds, good seconds", {"retry-after-ms": "-1", "retry-after": "30"}, 30),
    (
        "the latest of the rejected windows",
        windows(
            status="rejected",
            reset=NOW + 60,
            **{
                "5h-status": "rejected",
                "5h-reset": NOW + 600,
                "7d-status": "rejected",
                "7d-reset": NOW + 9000,
            },
        ),
        9000,
    ),
    (
        "allowed windows say nothing",
        windows(
            status="rejected",
            **{
                "5h-status": "rejected",
                "5h-reset": NOW + 600,
                "7d-status": "allowed_warning",
                "7d-reset": NOW + 9000,
            },
        ),
        600,
    ),
    (
        "windows before retry-after",
        {"retry-after": "5", **windows(**{"5h-status": "rejected", "5h-reset": NOW + 600})},
        600,
    ),
    ("the unified reset", windows(status="rejected", reset=NOW + 60), 60),
    (
        "the unified reset where the window has none",
        windows(status="rejected", reset=NOW + 60, **{"5h-status": "rejected"}),
        60,
    ),
    ("an allowed unified status says nothing", windows(status="allowed", reset=NOW + 60), None),
    ("a unified reset alone says nothing", windows(reset=NOW + 60), None),
    (
        "a window's reset in the past, then the unified one",
        windows(
            status="rejected", reset=NOW + 60, **{"5h-status": "rejected", "5h-reset": NOW - 60}
        ),
        60,
    ),
    (
        "a unified reset in the past, then retry-after",
        {**windows(status="rejected", reset=NOW - 60), "retry-after": "7"},
        7,
    ),
    (
        "an absurd reset of one window beside that of another",
        REJECTED
        | windows(**{"5h-status": "rejected", "5h-reset": 9e14})
        | windows(**{"7d-status": "rejected", "7d-reset": NOW + 60}),
        60,
    ),
    (
        "a garbled reset, then retry-after",
        {**windows(status="rejected", reset="tomorrow"), "retry-after": "7"},
        7,
    ),
]


@pytest.mark.parametrize(
    ("headers", "seconds"), [row[1:] for row in HINTS], ids=[r[0] for r in HINTS]
)
def test_reset_hint(headers: dict[str, str], seconds: float | None) -> None:
    expected = None if seconds is None else NOW + seconds
    assert until(headers, "", NOW) == expected


def http_date(when: float) -> str:
    return format_datetime(datetime.fromtimestamp(when, UTC), usegmt=True)


def test_retry_after_as_an_http_date() -> None:
    assert until({"retry-after": http_date(NOW + 90)}, "", NOW) == NOW + 90


def test_an_http_date_in_the_past_says_nothing() -> None:
    assert until({"retry-after": http_date(NOW - 90)}, "", NOW) is None


def test_an_http_date_without_a_zone_is_utc() -> None:
    date = http_date(NOW).removesuffix("GMT") + "-0000"
    assert retry_after(date, NOW) == NOW


def test_another_unit_than_seconds_says_nothing() -> None:
    milliseconds = {"anthropic-ratelimit-unified-status": "rejected"}
    milliseconds["anthropic-ratelimit-unified-reset"] = str(int(NOW + 60) * 1000)
    assert until(milliseconds, "", NOW) is None
    assert until({**milliseconds, "retry-after": "5"}, "", NOW) == NOW + 5


def test_a_date_in_the_message_counts_when_nothing_else_does() -> None:
    message = "You will regain access on 2023-12-01 at 00:30 UTC."
    then = datetime(2023, 12, 1, 0, 30, tzinfo=UTC).timestamp()
    assert until({}, message, NOW) == then
    assert until({"retry-after": "5"}, message, NOW) == NOW + 5
    assert until({}, "regain access on 2023-12-01", NOW) == then - 1800
    assert until({}, "regain access on 2023-99-01", NOW) is None
    assert until({}, "regain access on 2020-02-01", NOW) is None


@pytest.mark.parametrize(
    ("headers", "message", "source"),
    [
        ({"retry-after": "5"}, "", "retry-after"),
        ({"retry-after-ms": "5", "retry-after": "9"}, "", "retry-after-ms"),
        ({f"{UNIFIED}status": "rejected", f"{UNIFIED}reset": "1700000009"}, "", f"{UNIFIED}reset"),
        (
            {
                f"{UNIFIED}5h-status": "rejected",
                f"{UNIFIED}5h-reset": "1700000009",
                f"{UNIFIED}7d-status": "rejected",
                f"{UNIFIED}7d-reset": "1700009999",
            },
            "",
            f"{UNIFIED}7d-reset",
        ),
        ({}, "You will regain access on 2023-12-01.", "message"),
    ],
)
def test_a_hint_names_its_source(headers: dict[str, str], message: str, source: str) -> None:
    hint = reset_hint(headers, message, NOW)
    assert hint is not None
    assert hint.source == source


TEXT = st.text(max_size=40) | st.sampled_from(
    ["Mon, 01 Jan 0001 00:00:00 +2359", "Mon, 1 Jan 99999999999999999999 00:00:00 GMT", "1e400"]
)


@given(value=TEXT, name=st.sampled_from(["retry-after", "retry-after-ms", f"{UNIFIED}reset"]))
def test_no_header_and_no_message_raises(value: str, name: str) -> None:
    hint = until({**REJECTED, name: value}, value, NOW)
    assert hint is None or hint > NOW


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Tue", "x", ""]),
    st.integers(-1, 40),
    st.sampled_from(["Jan", "Feb", "Foo"]),
    st.integers(0, 99999) | st.just(10**20),
    st.integers(-1, 99),
    st.integers(-1, 99),
    st.integers(-1, 99),
    st.sampled_from(["GMT", "+9999", "-0000", "", "PST", "+2359"]),
)


@given(date=DATES)
def test_no_date_raises(date: str) -> None:
    retry_after(date, NOW)


def test_only_a_subscription_that_rejects_can_reject_a_model_only() -> None:
    assert not only_model_window_rejected({})
    assert not only_model_window_rejected(windows(**{"7d_oi-status": "rejected"}))
    assert only_model_window_rejected(windows(status="rejected", **{"7d_oi-status": "rejected"}))
    assert not only_model_window_rejected(windows(status="rejected", **{"5h-status": "rejected"}))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1H30M", 5400),
        (" 2d ", 172800),
        ("1w", 604800),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("0", 0),
        ("", None),
        ("m", None),
        ("-5m", None),
        ("5 m", None),
        ("1h30", None),
        ("5y", None),
        ("ten", None),
        ("1..5m", None),
        ("5mx", None),
    ],
)
def test_duration(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@given(text=st.text(max_size=20) | st.from_regex(r"[0-9]+(ms|s|m|h)[0-9]*", fullmatch=True))
def test_no_duration_raises_or_is_negative(text: str) -> None:
    seconds = duration(text)
    assert seconds is None or seconds >= 0


IN_BODIES: list[tuple[Any, float | None]] = [
    ({"error": {"type": "usage_limit_reached", "resets_at": NOW + 90}}, 90),
    ({"error": {"resets_at": (NOW + 90) * 1000}}, 90),
    ({"error": {"resets_at": "2023-11-14T22:14:50Z"}}, 90),
    ({"error": {"resets_in_seconds": 90}}, 90),
    ({"error": {"reset_seconds": "90"}}, 90),
    ({"detail": {"reset_time": "1h30m"}}, 5400),
    ({"error": {"retry_after": 90}}, 90),
    ({"retry_after_ms": 1500}, 1.5),
    ({"retryAfter": "90s"}, 90),
    ({"error": {"details": [{"metadata": {"quotaResetDelay": "1h16m0.5s"}}]}}, 4560.5),
    ({"error": {"details": [{"metadata": {"quotaResetTimeStamp": "2023-11-14T22:14:50Z"}}]}}, 90),
    ({"resetAfter": 90}, 90),
    ({"limitResetDelay": 90}, 90),
    # The later of two, a time in the past, an invalid time, and other members.
    ({"resets_in_seconds": 90, "retry_after": 5}, 90),
    ({"resets_at": NOW - 5}, None),
    ({"resets_at": True, "retry_after": None, "reset_time": "soon"}, None),
    ({"retry_after": 10**400}, None),
    ({"resets": {"at": 90}, "retries": 3, "reset_url": 90}, None),
    ("retry_after", None),
]


@pytest.mark.parametrize(("value", "seconds"), IN_BODIES)
def test_a_reset_that_the_body_gives(value: Any, seconds: float | None) -> None:
    hint = body_hint(value, NOW)
    assert (hint and hint.until) == (None if seconds is None else NOW + seconds)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["resets_at", "retry_after", "error", "retryDelay"]), inner
            )
        ),
    )
)
def test_no_body_raises(value: Any) -> None:
    body_hint(value, NOW)
