"""A window that moves over the log: what counts, what is shown, and that it stays small."""

from collections.abc import Iterable
from typing import Any

import pytest

from ccfallback.events.aggregate import BUCKETS
from ccfallback.events.live import FORGOTTEN, MOST_RECORDS, MOST_SHOWN, LiveStats, Picture
from ccfallback.events.records import Event, Record, decode, record_from
from tests.cli import logbook

NOW = 1_763_992_800.0
WINDOW = 900.0


def records(lines: Iterable[bytes]) -> list[Record[Event]]:
    return [record for line in lines if (record := decode(line)) is not None]


def answer(
    at: float, provider: str = "one", latency: float = 1000.0, n: int = 0
) -> list[Record[Event]]:
    return records(logbook.answered(at, provider, latency, request=f"ccr-{at}-{n}"))


def seen(told: Iterable[Record[Event]], now: float = NOW) -> Picture:
    watch = LiveStats(WINDOW)
    for record in told:
        watch.add(record, now)
    return watch.picture(now)


def test_what_ended_is_counted() -> None:
    failure = records(logbook.failed_attempt(NOW - 20, "one", "500 api_error"))
    lost, left = records([logbook.unanswered(NOW - 9), logbook.unanswered(NOW - 8, 499)])
    picture = seen([*answer(NOW - 90), *failure, *answer(NOW - 10, "two"), lost, left])
    counts = (picture.requests, picture.answered, picture.failed, picture.left)
    assert counts == (4, 2, 1, 1)
    assert picture.last_minute == 3
    one = picture.providers["one"]
    assert (one.attempts.total(), one.failures, one.answers) == (2, 1, 1)
    assert one.latency.quantile(0.5) == 1000.0
    assert len(picture.parts("one")) == BUCKETS


def test_an_attempt_at_the_next_provider_is_a_failover() -> None:
    def attempt(reason: str) -> bytes:
        return logbook.line("provider.attempt", NOW, request="r", provider="one", reason=reason)

    told = records(map(attempt, ["first", "retry", "failover", "safety-valve", "failover"]))
    assert seen(told).failovers == 2


def test_the_window_moves_on() -> None:
    watch = LiveStats(WINDOW)
    for record in answer(NOW):
        watch.add(record, NOW)
    assert watch.picture(NOW + WINDOW - 60).requests == 1
    later = watch.picture(NOW + WINDOW + 1)
    assert (later.requests, later.last_minute, later.providers) == (0, 0, {})
    assert len(later.ended) == 1, "what came last is shown, however long ago it was"


@pytest.mark.parametrize("away", [-WINDOW - 60, WINDOW, 10 * 365 * 86400])
def test_records_outside_the_window_do_not_count(away: float) -> None:
    assert seen(answer(NOW + away)).requests == 0


def test_side_endpoints_are_not_shown() -> None:
    side = answer(NOW)
    for record in side:
        record.level = "debug"
    picture = seen(side)
    assert (picture.requests, picture.ended, picture.in_progress) == (0, [], [])


@pytest.mark.parametrize(
    "junk",
    [
        {},
        {"event": "request.complete"},
        {"event": 3, "timestamp": None, "requestId": []},
        {"event": "provider.attempt", "timestamp": "9999-12-31T23:59:59Z", "requestId": "r"},
    ],
)
def test_a_record_of_another_program_does_no_harm(junk: dict[str, Any]) -> None:
    picture = seen([record_from(junk)])
    assert picture.requests == 0
    assert [each.story.status for each in picture.ended] == []


def test_a_request_is_in_progress_until_it_ends() -> None:
    start, attempt, success, end = answer(NOW)
    watch = LiveStats(WINDOW)
    for record in (start, attempt, success):
        watch.add(record, NOW)
    (in_progress,) = watch.picture(NOW).in_progress
    assert (in_progress.end, in_progress.began) == (None, NOW)
    assert [each.provider for each in in_progress.story.candidates] == ["one"]
    watch.add(end, NOW)
    picture = watch.picture(NOW)
    assert picture.in_progress == []
    assert picture.ended[0].end == end
    assert picture.ended[0].story.provider == "one"


def test_a_record_after_the_end_starts_no_request() -> None:
    late = records([logbook.line("circuit_breaker.reset", NOW, request=f"ccr-{NOW}-0")])
    assert seen([*answer(NOW), *late]).in_progress == []


def test_a_request_without_an_end_is_forgotten() -> None:
    watch = LiveStats(WINDOW)
    watch.add(answer(NOW)[0], NOW)
    assert len(watch.picture(NOW + FORGOTTEN - 1).in_progress) == 1
    assert watch.picture(NOW + FORGOTTEN + 1).in_progress == []


def test_a_second_request_with_the_same_id_is_another_request() -> None:
    first = answer(NOW - 5)
    picture = seen([first[0], *first])
    assert [len(each.records) for each in picture.ended] == [4]


def test_a_request_whose_beginning_is_lost_is_shown() -> None:
    (ended,) = seen(answer(NOW)[3:]).ended
    assert ended.story.provider == "one"


def test_what_was_written_before_is_read_from_the_end() -> None:
    told = [record for n in range(30) for record in answer(NOW - 3000 + 100 * n, n=n)]
    watch = LiveStats(WINDOW)
    watch.recall(reversed(told), NOW)
    picture = watch.picture(NOW)
    assert picture.requests == seen(told).requests == 8
    assert [each.records for each in picture.ended] == [each.records for each in seen(told).ended]
    assert len(picture.ended) == 30


def test_no_more_is_read_than_is_shown() -> None:
    old = (record for n in range(10_000) for record in answer(NOW - 2000 - n, n=n)[::-1])
    LiveStats(WINDOW).recall(old, NOW)
    left = sum(1 for _ in old)
    assert left > 4 * (10_000 - MOST_SHOWN) - 10


def test_memory_is_bounded() -> None:
    watch = LiveStats(WINDOW)
    for n in range(3 * MOST_SHOWN):
        for record in answer(NOW + n * 60, f"provider-{n}", n=n):
            watch.add(record, NOW + n * 60)
        watch.add(answer(NOW + n * 60, n=-n - 1)[0], NOW + n * 60)
    end = NOW + 3 * MOST_SHOWN * 60
    picture = watch.picture(end)
    assert len(picture.ended) == MOST_SHOWN
    assert len(picture.in_progress) <= MOST_SHOWN
    assert len(picture.providers) <= BUCKETS
    assert len(watch._slots) <= BUCKETS
    assert len(watch._seconds) <= 60


def test_the_records_of_one_request_are_bounded() -> None:
    attempt = answer(NOW)[1]
    (request,) = seen([attempt] * (3 * MOST_RECORDS)).in_progress
    assert len(request.records) == MOST_RECORDS
