"""How a request got its answer, in words."""

from typing import Any

import pytest

from ccfallback.cli.requests_view import describe_path, tried_json
from ccfallback.events.explain import Explanation, explain
from ccfallback.events.records import decode
from tests.cli import logbook

NUMBERS = {"one": "1", "two": "2"}


def story(lines: list[bytes]) -> Explanation:
    return explain([record for line in lines if (record := decode(line)) is not None])


def attempt(provider: str, **data: Any) -> bytes:
    return logbook.line("provider.attempt", 0, request="r", provider=provider, attempt=1, **data)


def success(provider: str, number: int = 1) -> bytes:
    return logbook.line("provider.success", 0, request="r", provider=provider, attempt=number)


def failure(provider: str, **data: Any) -> bytes:
    told = {"attempt": 1, "status": 529, "reason": "529 overloaded_error", **data}
    return logbook.line("provider.failure", 0, "warn", "r", provider=provider, **told)


def skip(provider: str, **data: Any) -> bytes:
    return logbook.line("circuit_breaker.skip", 0, request="r", provider=provider, **data)


def end(provider: str | None, status: int = 200, **data: Any) -> bytes:
    event = "request.complete" if status == 200 else "request.error"
    return logbook.line(event, 0, request="r", provider=provider, status=status, **data)


REPAIRED = [
    attempt("one"),
    logbook.line("rectifier.attempt", 0, request="r", provider="one", rectifier="max_tokens"),
    attempt("one"),
    success("one"),
]


@pytest.mark.parametrize(
    ("lines", "whole", "brief"),
    [
        ([attempt("one"), success("one"), end("one")], ("one", ""), ("one", "")),
        (
            [attempt("one"), failure("one"), attempt("two"), success("two"), end("two")],
            ("two", "after one (529 overloaded_error)"),
            ("two", "after 1 (529)"),
        ),
        (
            [skip("one"), skip("two", probe=True), attempt("old"), success("old"), end("old")],
            ("old", "after one (cooling down) and two (probed by another request)"),
            ("old", "after 1 (cooling down) and 2 (probing)"),
        ),
        ([*REPAIRED, end("one")], ("one", "repaired by max_tokens"), None),
        (
            [attempt("one"), attempt("one"), attempt("one"), success("one"), end("one")],
            ("one", "at attempt 3"),
            None,
        ),
        ([attempt("one"), failure("one"), end("one", 529)], ("one", "forwarded as it came"), None),
        (
            [attempt("one"), failure("one"), end(None, 502, error="fallback_exhausted")],
            ("-", "no answer, after one (529 overloaded_error)"),
            ("-", "no answer, after 1 (529)"),
        ),
        (
            [attempt("one"), end(None, 499, error="client disconnected")],
            ("one", "stopped by you"),
            ("one", "stopped by you"),
        ),
        (
            [attempt("one"), success("one"), end("one", 499, error="client disconnected")],
            ("one", "stopped by you"),
            None,
        ),
        (
            [attempt("one"), failure("one"), attempt("two"), end(None, 499)],
            ("two", "stopped by you, after one (529 overloaded_error)"),
            None,
        ),
        (
            [
                attempt("one"),
                success("one"),
                logbook.line("provider.failure", 0, "warn", "r", provider="one", reason="cut"),
                end("one", 200, error="torn").replace(b"request.complete", b"request.error"),
            ],
            ("one", "after one (cut)"),
            None,
        ),
        (
            [attempt("one"), failure("one"), attempt("two")],
            ("two", "tried now, after one (529 overloaded_error)"),
            None,
        ),
        ([attempt("one"), success("one")], ("one", "answering now"), None),
    ],
)
def test_the_path_of_a_request(
    lines: list[bytes], whole: tuple[str, str], brief: tuple[str, str] | None
) -> None:
    it = story(lines)
    assert describe_path(it, {}) == whole
    assert brief is None or describe_path(it, NUMBERS) == brief


def test_the_providers_that_were_tried() -> None:
    lines = [
        skip("one"),
        attempt("two"),
        failure("two"),
        attempt("old"),
        success("old"),
        end("old"),
    ]
    tried = tried_json(story(lines))
    assert [(each["provider"], each["standing"], each["attempts"]) for each in tried] == [
        ("one", "skipped", 0),
        ("two", "failed", 1),
        ("old", "answered", 1),
    ]
    assert tried[1]["results"] == ["529 overloaded_error"]
