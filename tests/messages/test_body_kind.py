"""What a body is by how it begins, wherever it is cut."""

import pytest

from ccfallback.messages.body_kind import BodyKind, BodyStart, last_json


@pytest.mark.parametrize("before", [b"", b" \r\n\n\t", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a":1}', BodyKind.JSON),
        (b"[1]", BodyKind.JSON),
        (b"<html>", BodyKind.PAGE),
        (b"data: {}", BodyKind.EVENTS),
        (b"event:x", BodyKind.EVENTS),
        (b"id: 1", BodyKind.EVENTS),
        (b"retry: 1", BodyKind.EVENTS),
        (b": alive", BodyKind.EVENTS),
        (b"database is down", BodyKind.UNKNOWN),
        (b"internal error", BodyKind.UNKNOWN),
        (b"dat", BodyKind.UNKNOWN),
        (b"", BodyKind.UNKNOWN),
    ],
)
def test_the_first_bytes_decide(before: bytes, body: bytes, kind: BodyKind) -> None:
    for size in (1, 2, len(before + body) or 1):
        start, whole = BodyStart(), before + body
        chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
        taken = b""
        for chunk in [*chunks, b""]:
            start.feed(chunk)
            taken += chunk
            if start.kind is not None:
                break
        assert start.kind is kind
        assert start.raw == taken


@pytest.mark.parametrize(
    ("raw", "tail"),
    [
        (b': alive\n\n{"error":1}', b'{"error":1}'),
        (b': alive\r\n\r\n\n {"error":1}\n\n', b'{"error":1}'),
        (b'{"error":1}', b'{"error":1}'),
        (b"data: {}\n\n", b""),
        (b'data: {}\n{"a":1}', b""),
        (b"", b""),
    ],
)
def test_json_behind_the_last_event_is_found(raw: bytes, tail: bytes) -> None:
    assert last_json(raw) == tail
