"""Counting events: which count as what, and that nothing else does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.counters import (
    ATTEMPTS,
    COOLDOWNS,
    DURATION,
    FAILOVERS,
    FAILURES,
    FIRST,
    REFUSED,
    REPAIRS,
    REQUESTS,
    SKIPS,
    TOKENS,
    VALVES,
    Counters,
    Histogram,
    Metric,
)
from ccfallback.events.records import EVENTS, ProviderSuccess, RequestComplete

END: dict[str, Any] = {
    "provider": "a",
    "status": 200,
    "latency": 2400.0,
    "ttft": 300.0,
    "input_tokens": 5,
    "output_tokens": 7,
    "cache_read_tokens": None,
    "cache_write_tokens": 0,
}


@pytest.mark.parametrize(
    ("event", "data", "metric", "counts"),
    [
        ("request.complete", END, REQUESTS, {("a", "answered", "200"): 1}),
        ("request.complete", END, TOKENS, {("a", "input"): 5, ("a", "output"): 7}),
        (
            "request.error",
            {"provider": None, "status": 502},
            REQUESTS,
            {("none", "failed", "502"): 1},
        ),
        (
            "request.error",
            {"provider": "a", "status": 499},
            REQUESTS,
            {("a", "client_left", "499"): 1},
        ),
        (
            "provider.attempt",
            {"provider": "a", "reason": "first", "after": None},
            ATTEMPTS,
            {("a", "first"): 1},
        ),
        (
            "provider.attempt",
            {"provider": "a", "reason": "failover", "after": "overloaded"},
            FAILOVERS,
            {("a", "overloaded"): 1},
        ),
        # Passed by one that cools down: nothing was wrong with a try.
        ("provider.attempt", {"provider": "a", "reason": "failover", "after": None}, FAILOVERS, {}),
        (
            "provider.attempt",
            {"provider": "a", "reason": "retry", "after": "upstream"},
            FAILOVERS,
            {},
        ),
        ("provider.failure", {"provider": "a", "fault": "torn"}, FAILURES, {("a", "torn"): 1}),
        (
            "provider.timeout",
            {"provider": "a", "fault": "timeout"},
            FAILURES,
            {("a", "timeout"): 1},
        ),
        ("circuit_breaker.skip", {"provider": "a"}, SKIPS, {("a",): 1}),
        ("circuit_breaker.cooldown", {"provider": "a"}, COOLDOWNS, {("a",): 1}),
        ("safety_valve.triggered", {"provider": "a"}, VALVES, {("a",): 1}),
        (
            "rectifier.applied",
            {"provider": "a", "rectifier": "betas"},
            REPAIRS,
            {("a", "betas"): 1},
        ),
        ("auth.failure", {"path": "/v1/messages"}, REFUSED, {(): 1}),
    ],
)
def test_what_counts_as_what(
    event: str, data: dict[str, Any], metric: Metric, counts: dict[tuple[str, ...], int]
) -> None:
    tally = Counters()
    tally.note(EVENTS[event](**data))
    assert dict(tally.counts[metric]) == counts


def test_durations_are_in_seconds() -> None:
    tally = Counters()
    tally.note(RequestComplete(**END))
    tally.note(RequestComplete(**{**END, "ttft": None}))
    latency, first = tally.histograms[DURATION]["a"], tally.histograms[FIRST]["a"]
    assert (sum(latency.counts), sum(first.counts)) == (2, 1)
    assert latency.total == pytest.approx(4.8)
    assert first.total == pytest.approx(0.3)


def test_other_events_count_for_nothing() -> None:
    tally = Counters()
    tally.note(ProviderSuccess(provider="a"))
    assert not any(count for counts in tally.counts.values() for count in counts.values())


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_counts_what_is_not_above_a_bound(values: list[float]) -> None:
    histogram = Histogram((1.0, 10.0))
    for value in values:
        histogram.add(value)
    assert list(histogram.cumulative()) == [
        ("1.0", sum(value <= 1 for value in values)),
        ("10.0", sum(value <= 10 for value in values)),
        ("+Inf", len(values)),
    ]
