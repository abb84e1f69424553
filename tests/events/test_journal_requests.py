"""One request is found from the log's end, across files, by its id or a part of it."""

from pathlib import Path
from typing import Any

import msgspec

from ccfallback.events.journal_requests import Found, last, last_with_trouble, named, records_of


def write(path: Path, *records: tuple[str, str, dict[str, Any]], level: str = "info") -> None:
    """Lines of (request, event, data)."""
    with path.open("ab") as file:
        for request, event, data in records:
            line = {"level": level, "event": event, "requestId": request, "data": data}
            file.write(msgspec.json.encode(line) + b"\n")


def request(path: Path, name: str, attempts: int) -> None:
    write(path, (name, "request.start", {}))
    for number in range(1, attempts + 1):
        write(path, (name, "provider.attempt", {"attempt": number}))
    write(path, (name, "request.complete", {"attempts": attempts}))


def test_the_latest_that_needed_more_than_one_attempt(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, attempts in (("a", 2), ("b", 11), ("c", 1), ("d", 0)):
        request(log, name, attempts)
    assert last_with_trouble(log) == "b"
    assert last(log) == "d"


def test_else_the_latest_that_had_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("a", "provider.failure", {"attempt": 1}), ("b", "request.error", {"attempts": 0}))
    assert last_with_trouble(log) == "a"


def test_side_requests_are_not_meant(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("a", "provider.attempt", {"attempt": 2}), level="debug")
    assert last_with_trouble(log) is None
    assert last(log) is None
    assert named(log, "a") == Found("a")


def test_no_log_holds_no_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last(log) is None
    assert named(log, "a") is None
    assert records_of(log, "a") == []


def test_a_part_of_an_id_means_the_latest_that_fits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("ccr-1_aaa", "ccr-2_bbb", "ccr-3_aab"):
        request(log, name, 1)
    assert named(log, "bbb") == Found("ccr-2_bbb")
    assert named(log, "ccr-") == Found("ccr-3_aab", 2)
    assert named(log, "1_a") is None
    assert named(log, "") is None


def test_a_whole_id_beats_a_later_one_that_begins_like_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    request(log, "turn-1", 1)
    request(log, "turn-10", 1)
    assert named(log, "turn-1") == Found("turn-1")


def test_a_request_is_whole_though_the_log_was_rotated_in_its_midst(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(tmp_path / "log.1", ("other", "request.start", {}), ("a", "request.start", {}))
    write(log, ("other", "request.complete", {}), ("a", "request.complete", {"attempts": 1}))
    assert [record["event"] for record in records_of(log, "a")] == [
        "request.start",
        "request.complete",
    ]


def test_of_several_requests_with_one_id_the_latest_is_meant(tmp_path: Path) -> None:
    log = tmp_path / "log"
    request(log, "a", 3)
    write(log, ("a", "request.error", {"attempts": 0}))
    assert [record["event"] for record in records_of(log, "a")] == ["request.error"]
