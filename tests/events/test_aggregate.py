"""Counting events: what counts as what, what does not count, and how much memory it takes."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.stats import stats_json
from ccfallback.events.aggregate import (
    BUCKETS,
    MOST_NAMES,
    REST,
    Stats,
    Summary,
    Totals,
    metric_totals,
)
from ccfallback.events.distributions import Histogram
from ccfallback.events.records import EVENTS, ProviderSuccess, RequestComplete
from tests.cli import logbook

START, END = 1_700_000_000.0, 1_700_000_000.0 + 48 * 60


def counted(lines: list[bytes]) -> Summary:
    stats = Stats(START, END)
    for line in lines:
        stats.add(line)
    return stats.summary()


def test_a_request_counts_where_it_ends() -> None:
    stats = counted(
        [*logbook.answered(START, "p", 100.0), *logbook.answered(START + 1, "one", 300.0)]
    )
    assert (stats.requests, stats.answered, stats.failed) == (2, 2, 0)
    assert (stats.success_rate, stats.fallback_rate("p")) == (1.0, 0.5)
    assert stats.providers["one"].latency.quantile(0.5) == 300.0
    assert stats.providers["one"].attempts.total() == 1


def test_a_client_that_left_is_neither_answered_nor_failed() -> None:
    stats = counted([logbook.unanswered(START), logbook.unanswered(START, 499)])
    assert (stats.requests, stats.failed, stats.left, stats.success_rate) == (2, 1, 1, 0.0)


def test_without_requests_there_is_no_rate() -> None:
    stats = counted([])
    assert (stats.success_rate, stats.fallback_rate("p")) == (None, None)


def test_failed_attempts_count_by_their_reason() -> None:
    stats = counted(
        [
            *logbook.failed_attempt(START, "p", "529 overloaded_error"),
            *logbook.failed_attempt(START, "p", "first_byte timeout"),
            *logbook.failed_attempt(START, "p", "529 overloaded_error"),
        ]
    )
    provider = stats.providers["p"]
    assert (provider.attempts.total(), provider.failures) == (3, 3)
    assert provider.reasons == {"529 overloaded_error": 2, "first_byte timeout": 1}
    assert stats.requests == 0


def test_cached_tokens_belong_to_the_prompt() -> None:
    found = counted(logbook.answered(START, "p", 1.0)).all_providers
    assert (found.prompt_tokens, found.tokens["output"]) == (10 + 4000 + 90, 200)


def test_only_requests_within_the_time_count_each_in_its_part() -> None:
    stats = counted(
        [
            *logbook.answered(START - 0.001, "p", 1.0),
            *logbook.answered(START, "p", 10.0),
            *logbook.answered(START + 30, "p", 30.0),
            logbook.unanswered(END - 0.001),
            *logbook.answered(END, "p", 1.0),
        ]
    )
    assert stats.requests == 3
    assert [part.ended for part in stats.parts()] == [2, *[0] * (BUCKETS - 2), 1]
    assert (stats.parts()[0].latency, stats.parts()[-1].latency) == (20.0, None)


def test_side_endpoints_do_not_count() -> None:
    assert not counted([logbook.line("provider.attempt", START, "debug", provider="p")]).providers


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense\n",
        b"[1]\n",
        b'{"event":"request.complete"}\n',
        b'{"timestamp":"yesterday","event":"request.complete","data":{}}\n',
        b'{"timestamp":"2023-11-14T22:14:00","event":"request.complete","data":[]}\n',
        b'{"timestamp":"0001-01-01T00:00:00Z","event":"request.complete","data":{}}\n',
        b'{"timestamp":"2023-11-14T22:14:00Z","event":"request.complete","data":{"provider":\xff}}',
    ],
)
def test_a_line_that_is_not_a_record_does_not_count(line: bytes) -> None:
    assert counted([line]).requests == 0


def test_an_answer_of_unknown_latency_counts_and_changes_no_average() -> None:
    line = logbook.line("request.complete", START, provider="p", latency="x")
    stats = counted([*logbook.answered(START, "p", 300.0), line])
    assert (stats.answered, stats.all_providers.latency.mean) == (2, 300.0)


def test_spaces_between_members_change_nothing() -> None:
    line = logbook.unanswered(START).replace(b'":', b'" : ')
    assert counted([line]).requests == 1


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    counted([line])


def test_the_number_of_names_is_bounded() -> None:
    stats = counted(
        [line for n in range(1000) for line in logbook.failed_attempt(START, f"p{n}", "why")]
        + [line for n in range(1000) for line in logbook.failed_attempt(START, "p0", f"why {n}")]
    )
    assert len(stats.providers) <= MOST_NAMES + 1
    assert len(stats.providers["p0"].reasons) <= MOST_NAMES + 1
    assert stats.providers[REST].attempts.total() == 1000 - MOST_NAMES
    assert stats.providers["p0"].failures == 1001


def test_order_does_not_matter() -> None:
    lines = list(logbook.day(END))
    shuffled = list(lines)
    Random(7).shuffle(shuffled)
    one, other = stats_json(counted(lines)), stats_json(counted(shuffled))
    assert one == other


def test_the_json_has_all_numbers() -> None:
    found = stats_json(counted(logbook.answered(START, "p", 120.0)))
    assert found["since"] == START * 1000
    assert found["latency"] == {"p50": 120.0, "p95": 120.0, "p99": 120.0}
    assert found["providers"][0]["name"] == "p"
    assert found["providers"][0]["tokens"]["cacheRead"] == 4000
    assert len(found["buckets"]) == BUCKETS
    assert found["buckets"][0] == {
        "start": START * 1000,
        "answered": 1,
        "failed": 0,
        "latency": 120.0,
    }


def test_parts_can_be_fewer_and_larger() -> None:
    stats = counted([*logbook.answered(START, "p", 10.0), *logbook.answered(END - 1, "p", 20.0)])
    whole, half = stats.parts(count=1), stats.parts("p", count=2)
    assert [(part.ended, part.latency) for part in whole] == [(2, 15.0)]
    assert [(part.ended, part.latency) for part in half] == [(1, 10.0), (1, 20.0)]
    assert stats.parts("another", count=1)[0].ended == 0


def test_a_provider_that_was_only_skipped_is_not_ranked() -> None:
    stats = counted([logbook.line("circuit_breaker.skip", START, provider="p")])
    assert stats.ranked == []
    assert stats.providers["p"].skips == 1


# -- The same totals, as `/metrics` has them

END_DATA: dict[str, Any] = {
    "provider": "a",
    "status": 200,
    "latency": 2400.0,
    "ttft": 300.0,
    "input_tokens": 5,
    "output_tokens": 7,
    "cache_write_tokens": 0,
}


def totals(*events: tuple[str, dict[str, Any]]) -> Totals[Histogram]:
    found = metric_totals()
    for name, data in events:
        found.count(EVENTS[name](**data))
    return found


@pytest.mark.parametrize(
    ("event", "data", "counts"),
    [
        ("request.complete", END_DATA, {("a", "answered", 200): 1}),
        ("request.error", {"status": 502}, {("none", "failed", 502): 1}),
        ("request.error", {"provider": "a", "status": 499}, {("a", "client_left", 499): 1}),
    ],
)
def test_how_a_request_ended(
    event: str, data: dict[str, Any], counts: dict[tuple[str, str, int], int]
) -> None:
    assert totals((event, data)).requests == counts


@pytest.mark.parametrize(
    ("event", "data", "name", "value"),
    [
        ("provider.attempt", {"reason": "first"}, "attempts", {"first": 1}),
        ("provider.attempt", {"reason": "failover", "after": "tls"}, "failovers", {"tls": 1}),
        # After a provider that was skipped: no attempt had failed.
        ("provider.attempt", {"reason": "failover"}, "failovers", {}),
        ("provider.attempt", {"reason": "retry", "after": "upstream"}, "failovers", {}),
        ("provider.failure", {"fault": "torn"}, "faults", {"torn": 1}),
        ("provider.timeout", {"fault": "timeout"}, "faults", {"timeout": 1}),
        ("rectifier.applied", {"rectifier": "betas"}, "repairs", {"betas": 1}),
        ("circuit_breaker.skip", {}, "skips", 1),
        ("circuit_breaker.cooldown", {}, "cooldowns", 1),
        ("safety_valve.triggered", {}, "valves", 1),
    ],
)
def test_what_counts_at_a_provider(
    event: str, data: dict[str, Any], name: str, value: object
) -> None:
    assert getattr(totals((event, {"provider": "a", **data})).providers["a"], name) == value


def test_refused_requests_count() -> None:
    assert totals(("auth.failure", {"path": "/v1/messages"})).refused == 1


def test_durations_are_counted_where_there_are_any() -> None:
    found = totals(
        ("request.complete", END_DATA), ("request.complete", {**END_DATA, "ttft": None})
    ).providers["a"]
    assert (sum(found.latency.counts), sum(found.ttft.counts)) == (2, 1)
    assert (found.latency.total, found.ttft.total) == (4800.0, 300.0)
    assert found.tokens == {"input": 10, "output": 14, "cache_write": 0}


def test_other_events_do_not_count() -> None:
    found = metric_totals()
    found.count(ProviderSuccess(provider="a"))
    assert (found.providers, found.requests.total()) == ({}, 0)


def test_totals_can_be_added() -> None:
    one, both = metric_totals(), metric_totals()
    one.count(RequestComplete(**END_DATA))
    both.merge(one)
    both.merge(one)
    assert both.requests == {("a", "answered", 200): 2}
    assert both.providers["a"].latency.total == 4800.0
