"""Reset hints in everybody's ways."""

from typing import Any

import pytest

from ccfallback.messages.errors import UpstreamError
from ccfallback.wire.openai.resets import hint

NOW = 1_700_000_000.0

HEADERS: list[tuple[dict[str, str], str, float | None]] = [
    ({}, "", None),
    ({"retry-after": "20"}, "", 20),
    ({"retry-after-ms": "1500"}, "", 1.5),
    ({"retry-after": "20", "x-ratelimit-reset-tokens": "6m0s"}, "tokens", 20),
    ({"x-ratelimit-reset-tokens": "6m0s"}, "", 360),
    ({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "1s"}, "", 1),
    ({"x-ratelimit-reset-requests": "1h2m3s", "x-ratelimit-reset-tokens": "1s"}, "tokens", 1),
    (
        {
            "x-ratelimit-reset-requests": "2s",
            "x-ratelimit-reset-tokens": "9s",
            "x-ratelimit-remaining-requests": "0",
        },
        "",
        2,
    ),
    ({"x-ratelimit-reset": "1700000060000"}, "", 60),
    ({"x-ratelimit-reset": "1700000060"}, "", 60),
    ({"x-ratelimit-reset": "60"}, "", 60),
    ({"x-ratelimit-reset": "1600000000000"}, "", None),
    ({"x-ratelimit-reset": "soon", "x-ratelimit-reset-tokens": "never"}, "", None),
    ({"x-ratelimit-reset": "nan"}, "", None),
]


@pytest.mark.parametrize(("headers", "kind", "seconds"), HEADERS)
def test_headers(headers: dict[str, str], kind: str, seconds: float | None) -> None:
    found = hint(headers, None, UpstreamError(kind), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else NOW + seconds)


MESSAGES: list[tuple[str, float | None]] = [
    ("Please try again in 6m0s. Visit the site.", 360),
    ("Please try again in 7m12.5s.", 432.5),
    ("Please try again in 20ms.", 0.02),
    ("max RPM: 3, please try again after 1 seconds", 1),
    ("Please retry in 34.5s.", 34.5),
    ("try again in 2 hours", 7200),
    ("try again in 1 day", 86400),
    ("try again in 1 minute 30 seconds", 90),
    ("try again later", None),
    ("try again in a while", None),
    ("Your limit will reset at 2023-11-20 12:00:00", 452_800),
    ("将在 2023-11-20 12:00:00 重置", 452_800),
    ("until 2023-11-20T12:00:00Z", 481_600),
    ("until 2023-11-20 12:00 UTC", 481_600),
    ("until 2023-11-20T12:00:00+01:00", 478_000),
    ("since 2020-01-01 00:00:00", None),
    ("at 2023-99-99 99:99:99", None),
]


@pytest.mark.parametrize(("message", "seconds"), MESSAGES)
def test_words(message: str, seconds: float | None) -> None:
    found = hint({}, None, UpstreamError(message=message), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else pytest.approx(NOW + seconds))


BODIES: list[tuple[Any, float | None]] = [
    ({"error": {"details": [{"@type": "x"}, {"retryDelay": "34s"}]}}, 34),
    ([{"error": {"details": [{"retryDelay": "34.5s"}]}}], 34.5),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "1700000060000"}}}}, 60),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": 1700000060000}}}}, 60),
    ({"error": {"details": [{"retryDelay": 34}], "metadata": []}}, None),
    ({"error": "x"}, None),
    ([], None),
]


@pytest.mark.parametrize(("value", "seconds"), BODIES)
def test_bodies(value: Any, seconds: float | None) -> None:
    found = hint({}, value, UpstreamError(), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else NOW + seconds)
