"""Counting the log: what counts, what does not, and how much memory it may take."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.stats import BUCKETS, MOST_NAMES, REST, Part, Stats, document, folded
from tests.cli import logbook

START, END = 1_700_000_000.0, 1_700_000_000.0 + 48 * 60


def counted(lines: list[bytes]) -> Stats:
    stats = Stats(START, END, primary="p")
    for line in lines:
        stats.add(line)
    return stats


def test_a_request_counts_where_it_ends() -> None:
    stats = counted(
        [*logbook.answered(START, "p", 100.0), *logbook.answered(START + 1, "one", 300.0)]
    )
    assert (stats.requests, stats.answers.count, stats.failed) == (2, 2, 0)
    assert (stats.success_rate, stats.fallback_rate) == (1.0, 0.5)
    assert stats.providers["one"].answers.latency.quantile(0.5) == 300.0
    assert stats.providers["one"].attempts == 1


def test_a_client_that_left_is_neither_answered_nor_failed() -> None:
    stats = counted([logbook.unanswered(START), logbook.unanswered(START, 499)])
    assert (stats.requests, stats.failed, stats.left, stats.success_rate) == (2, 1, 1, 0.0)


def test_rates_of_nothing_are_not_known() -> None:
    stats = counted([])
    assert (stats.success_rate, stats.fallback_rate) == (None, None)


def test_failed_tries_count_by_their_reason() -> None:
    stats = counted(
        [
            *logbook.failed_try(START, "p", "529 overloaded_error"),
            *logbook.failed_try(START, "p", "first_byte timeout"),
            *logbook.failed_try(START, "p", "529 overloaded_error"),
        ]
    )
    provider = stats.providers["p"]
    assert (provider.attempts, provider.failures) == (3, 3)
    assert provider.reasons == {"529 overloaded_error": 2, "first_byte timeout": 1}
    assert stats.requests == 0


def test_cached_tokens_belong_to_the_prompt() -> None:
    tokens = counted(logbook.answered(START, "p", 1.0)).answers.tokens
    assert (tokens.prompt, tokens.output) == (10 + 4000 + 90, 200)


def test_only_the_asked_time_counts_and_each_request_in_its_part() -> None:
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
    assert [part.ended for part in stats.parts] == [2, *[0] * (BUCKETS - 2), 1]
    assert (stats.parts[0].latency, stats.parts[-1].latency) == (20.0, None)


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
        b'{"timestamp":"2023-11-14T22:14:00Z","event":"request.complete","data":{"latency":"x"}}\n',
        b'{"timestamp":"0001-01-01T00:00:00Z","event":"request.complete","data":{}}\n',
        b'{"timestamp":"2023-11-14T22:14:00Z","event":"request.complete","data":{"provider":\xff}}',
    ],
)
def test_what_is_no_record_is_passed_over(line: bytes) -> None:
    assert counted([line]).requests == 0


def test_spaces_between_members_change_nothing() -> None:
    line = logbook.unanswered(START).replace(b'":', b'" : ')
    assert counted([line]).requests == 1


@given(st.binary(max_size=200))
def test_no_bytes_break_it(line: bytes) -> None:
    counted([line])


def test_names_from_elsewhere_are_bounded() -> None:
    stats = counted(
        [line for n in range(1000) for line in logbook.failed_try(START, f"p{n}", "why")]
        + [line for n in range(1000) for line in logbook.failed_try(START, "p0", f"why {n}")]
    )
    assert len(stats.providers) <= MOST_NAMES + 1
    assert len(stats.providers["p0"].reasons) <= MOST_NAMES + 1
    assert stats.providers[REST].attempts == 1000 - MOST_NAMES
    assert stats.providers["p0"].failures == 1001


def test_order_does_not_matter() -> None:
    lines = list(logbook.day(END))
    shuffled = list(lines)
    Random(7).shuffle(shuffled)
    one, other = document(counted(lines)), document(counted(shuffled))
    assert one == other


def test_the_document_has_all_that_there_is() -> None:
    found = document(counted(logbook.answered(START, "p", 120.0)))
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


def test_parts_fold_into_fewer() -> None:
    parts = [Part(ended=2, failed=1, milliseconds=10.0), Part(ended=1, milliseconds=20.0)]
    assert folded(parts, 1) == [Part(ended=3, failed=1, milliseconds=30.0)]
    assert folded(parts, 2) == parts
