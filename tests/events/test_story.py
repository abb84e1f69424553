from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events import story
from ccfallback.events.records import record_from

RECORD = {
    "timestamp": "2025-05-11T23:20:03.123Z",
    "level": "warn",
    "event": "provider.failure",
    "message": "anthropic-primary answered 529 overloaded_error after 0.2 s; asking openrouter",
    "requestId": "ccr-1715432100000_k3f9x2a",
    "data": {"provider": "anthropic-primary"},
}


def test_a_record_becomes_a_line() -> None:
    assert story.line(record_from(RECORD), timezone=UTC) == story.StoryLine(
        day="2025-05-11",
        time="23:20:03",
        sign="!",
        level="warn",
        request="k3f9x2a",
        text="anthropic-primary answered 529 overloaded_error after 0.2 s; asking openrouter",
    )


def test_the_time_is_the_reader_s_own() -> None:
    line = story.line(record_from(RECORD), timezone=timezone(timedelta(hours=2)))
    assert (line.day, line.time) == ("2025-05-12", "01:20:03")


@pytest.mark.parametrize("event", ["request.complete", "provider.success"])
def test_good_news_looks_good(event: str) -> None:
    assert (
        story.line(record_from({**RECORD, "level": "info", "event": event})).sign == story.ANSWERED
    )


def test_a_record_of_nothing_is_a_line_too() -> None:
    line = story.line(record_from({}))
    assert (line.time, line.request) == ("--:--:--", "")
    assert line.text


def test_a_terminal_gets_no_control_characters() -> None:
    line = story.line(record_from({"message": "a\x1b[31m\nb\x9b\u202ec"}))
    assert line.text == "a [31m b c"


ANY = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(RECORD, ANY)))
def test_no_record_raises(record: dict[str, Any]) -> None:
    line = story.line(record_from(record))
    assert len(line.time) == 8
    assert len(line.sign) == 1


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2025-05-11"])
def test_no_time_raises(when: str) -> None:
    assert len(story.line(record_from({"timestamp": when})).time) == 8
