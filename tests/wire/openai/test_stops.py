"""Why answers end, in Anthropic's words."""

from typing import Any

import pytest

from ccfallback.messages.body import Body
from ccfallback.wire.openai import stops

REASONS: list[tuple[str | None, dict[str, bool], str]] = [
    ("stop", {}, "end_turn"),
    ("STOP", {}, "end_turn"),
    ("eos", {}, "end_turn"),
    ("", {}, "end_turn"),
    (None, {}, "end_turn"),
    ("something new", {}, "end_turn"),
    ("tool_calls", {}, "end_turn"),
    ("stop", {"calls": True}, "tool_use"),
    ("tool_calls", {"calls": True}, "tool_use"),
    ("function_call", {"calls": True}, "tool_use"),
    (None, {"calls": True}, "tool_use"),
    ("length", {}, "max_tokens"),
    ("max_tokens", {}, "max_tokens"),
    ("model_length", {}, "max_tokens"),
    ("length", {"calls": True}, "tool_use"),
    ("length", {"calls": True, "whole": False}, "max_tokens"),
    ("content_filter", {}, "refusal"),
    ("content_filter", {"calls": True}, "refusal"),
    ("sensitive", {}, "refusal"),
    ("stop", {"refused": True}, "refusal"),
    ("model_context_window_exceeded", {}, "model_context_window_exceeded"),
]


@pytest.mark.parametrize(("finish", "known", "expected"), REASONS)
def test_reasons(finish: str | None, known: dict[str, bool], expected: str) -> None:
    facts = {"calls": False, "whole": True, "refused": False, **known}
    assert stops.reason(finish, **facts) == expected


@pytest.mark.parametrize(
    ("finish", "error", "kind"),
    [
        ("error", None, "api_error"),
        ("error", {"code": 429, "message": "x"}, "rate_limit_error"),
        ("network_error", None, "api_error"),
        ("insufficient_system_resource", None, "overloaded_error"),
        (None, "boom", "api_error"),
    ],
)
def test_what_is_no_end_at_all(finish: str | None, error: Any, kind: str) -> None:
    failure = stops.failure(finish, error)
    assert failure is not None
    assert failure.type == kind


def test_what_is_an_end() -> None:
    assert stops.failure("stop", None) is None
    assert stops.failure(None, {}) is None
    assert stops.is_cut("length")
    assert not stops.is_cut(None)


@pytest.mark.parametrize(
    ("said", "given", "expected"),
    [
        ("E", b'["E","F"]', "E"),
        ("G", b'["E"]', None),
        (128009, b'["E"]', None),
        ("", b'[""]', None),
        ("E", b'"E"', None),
        (None, b"null", None),
    ],
)
def test_a_stop_sequence_of_the_clients_own(said: Any, given: bytes, expected: str | None) -> None:
    assert stops.sequence(said, Body.parse(b'{"stop_sequences":%b}' % given)) == expected
