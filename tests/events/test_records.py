"""Records: written as documented, and read whatever a line holds."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.records import (
    EVENTS,
    Event,
    ProviderAttempt,
    ProviderFailure,
    ProviderSuccess,
    Record,
    RectifierAttempt,
    RequestComplete,
    RequestStart,
    UnknownEvent,
    all_printable,
    decode,
    record_from,
)


def a_record(event: Event) -> Record[Event]:
    return Record("2026-05-11T14:20:00.000Z", event.level, event.name, "words", "ccr-1", event)


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_every_event_is_read_as_it_was_written(kind: type[Event]) -> None:
    record = a_record(kind())
    line = msgspec.json.encode(record)
    assert list(msgspec.json.decode(line)) == [
        "timestamp", "level", "event", "message", "requestId", "data",
    ]  # fmt: skip
    assert decode(line) == record
    assert decode(line.replace(b'":', b'" : ')) == record


def test_data_keys_are_in_camel_case_without_unset_ones() -> None:
    event = RectifierAttempt(provider="p", removed=["top_k"])
    data = msgspec.json.decode(msgspec.json.encode(event))
    assert data == {
        "provider": "p", "rectifier": "", "changed": "", "removed": ["top_k"], "error": None,
    }  # fmt: skip
    assert "inputTokens" in msgspec.to_builtins(RequestComplete())


def test_a_member_of_the_wrong_type_counts_as_missing() -> None:
    line = b'{"event":"request.complete","level":7,"data":{"provider":"p","latency":"x","ttft":2}}'
    record = decode(line)
    assert record is not None
    assert record.level == ""
    assert record.data == RequestComplete(provider="p", ttft=2.0)


def test_an_event_of_another_version_is_unknown_and_may_have_a_provider() -> None:
    record = decode(b'{"event":"quota.future","message":"m","data":{"provider":"p","x":[1]}}')
    assert record is not None
    assert (record.event, record.message, record.data) == (
        "quota.future", "m", UnknownEvent(provider="p"),
    )  # fmt: skip


def test_new_members_of_a_known_event_are_ignored() -> None:
    record = decode(b'{"event":"provider.failure","data":{"provider":"p","new":[{}]}}')
    assert record is not None
    assert record.data == ProviderFailure(provider="p")


def test_the_event_of_a_line_is_its_own_not_one_in_its_texts() -> None:
    line = b'{"data":{"event":"request.error"},"event":"request.complete"}'
    record = decode(line)
    assert record is not None
    assert isinstance(record.data, RequestComplete)


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b"nonsense", b"\xff", b"[" * 100_000])
def test_a_line_that_is_not_an_object_is_not_a_record(line: bytes) -> None:
    assert decode(line) is None


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(sorted(EVENTS)) | ANY},
        optional=dict.fromkeys(("timestamp", "level", "message", "requestId", "data"), ANY),
    )
)
def test_nothing_that_a_line_holds_raises(raw: dict[str, Any]) -> None:
    record = record_from(raw)
    assert record.written is None or record.written > 0
    assert isinstance(record.data, EVENTS.get(record.event, UnknownEvent))
    msgspec.json.encode(record)


@pytest.mark.parametrize(
    ("timestamp", "written"),
    [
        ("1970-01-01T00:00:01.500Z", 1.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_when_a_record_was_written(timestamp: str, written: float | None) -> None:
    assert record_from({"timestamp": timestamp}).written == written


def test_a_request_matches_the_beginning_and_the_end_of_its_id() -> None:
    record = a_record(RequestComplete())
    assert record.matches("ccr")
    assert record.matches("-1")
    assert not record.matches("cr-")


def test_printable_texts_have_nothing_that_a_terminal_obeys() -> None:
    event = RectifierAttempt(changed="a\x1b[31m\nb\x9b\u202ec", removed=["\x07x"], counts={"\0": 1})
    clean = all_printable(event)
    assert (clean.changed, clean.removed, clean.counts) == ("a [31m b c", ["x"], {"": 1})


ODD = ["-1", "9007199254740992", "1" + "0" * 400, "-5.5", "1e308", '"1"', "true", "[]"]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_number_is_missing_and_the_rest_is_read(odd: str) -> None:
    line = (
        '{"timestamp":"2026-05-11T14:20:00.000Z","event":"request.complete","data":{"provider":"p",'
        f'"status":200,"latency":{odd if odd != "9007199254740992" else "1e13"},"outputTokens":7,'
        f'"inputTokens":{odd},"attempts":{odd}}}}}'
    )
    record = decode(line.encode())
    assert record is not None
    end = record.data
    assert isinstance(end, RequestComplete)
    assert (end.provider, end.status, end.output_tokens) == ("p", 200, 7)
    assert (end.latency, end.input_tokens, end.attempts) == (None, None, None)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (RequestStart(model="m", stream=True, bytes=49_249), "m, stream, 49.2 kB"),
        (RequestStart(stream=False, bytes=0), "no model, whole answer, 0.0 kB"),
        (ProviderAttempt(provider="one", reason="first"), "trying one"),
        (ProviderAttempt(provider="one", key=2, reason="retry"), "trying one key 2 (retry)"),
        (ProviderSuccess(provider="one", ms=3.1), "one answers after 4 ms"),
        (ProviderSuccess(provider="one", key=2, ms=410.0), "one key 2 answers after 0.41 s"),
        (RequestComplete(provider="one", latency=4.0), "answered by one in 4 ms"),
        (
            RequestComplete(provider="one", latency=5620.1, attempts=3, output_tokens=7),
            "answered by one in 5.62 s after 3 attempts, 0 tokens in, 7 out",
        ),
        (
            RequestComplete(
                provider="one",
                latency=4.0,
                attempts=1,
                input_tokens=1,
                cache_read_tokens=20,
                cache_write_tokens=300,
                output_tokens=0,
            ),
            "answered by one in 4 ms, 321 tokens in, 0 out",
        ),
        (ProviderFailure(provider="one", reason="overloaded"), ""),
    ],
)
def test_the_events_of_every_request_say_themselves_what_happened(
    event: Event, sentence: str
) -> None:
    assert event.describe() == sentence
