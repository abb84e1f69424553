"""The work for an answer grows with its length, however it is made and cut.

Two lengths are compared in one run, by CPU time: eight times the length may take three times as
much longer as that, not 64 times.
"""

from collections.abc import Callable
from time import process_time

import msgspec
import pytest

from ccfallback.config.model import Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.sse import event
from ccfallback.wire.anthropic import ANTHROPIC
from ccfallback.wire.filters import BlockStopHolder

pytestmark = pytest.mark.usefixtures("untraced")

BODY = Body.parse(b'{"model":"m","stream":true}')
FALLBACK = Provider(name="b", base_url="https://h.test")


def ev(kind: str, **members: object) -> bytes:
    return event(kind, msgspec.json.encode({"type": kind, **members}))


START = ev("message_start", message={"usage": {"input_tokens": 1}})
BLOCK = ev("content_block_start", index=0, content_block={"type": "text", "text": ""})
STOP = ev("content_block_stop", index=0)


def deltas(kind: str, member: str, piece: object) -> Callable[[int], bytes]:
    delta = ev("content_block_delta", index=0, delta={"type": kind, member: piece})
    return lambda size: START + BLOCK + delta * (size // len(delta)) + STOP


ANSWERS: dict[str, Callable[[int], bytes]] = {
    "text": deltas("text_delta", "text", "hi"),
    "blanks": deltas("text_delta", "text", " "),
    "thinking": deltas("thinking_delta", "thinking", "hm"),
    "arguments": deltas("input_json_delta", "partial_json", "}"),
    "citations": deltas("citations_delta", "citation", {}),
    "signatures": deltas("signature_delta", "signature", "c2ln"),
    "stops": lambda size: START + BLOCK + STOP * (size // len(STOP)),
    "blocks": lambda size: START + (BLOCK + STOP) * (size // len(BLOCK + STOP)),
    "one long event": lambda size: START + ev("ping", padding="x" * size),
    "lines": lambda size: START + b"event: ping\n" + b"x\n" * (size // 2) + b"\n",
    "lines of data": lambda size: START + b"event: ping\n" + b"data:\n" * (size // 6) + b"\n",
    "line ends": lambda size: START + b"\n" * size,
    "carriage returns": lambda size: START + b"\r" * size,
    "objects": lambda size: START + ev("ping", usage=[{}] * (size // 3)),
    "comments": lambda size: START + b":\n\n" * (size // 3),
}


def seconds(work: Callable[[], object], limit: float = 0.0) -> float:
    """The CPU time that it takes: the best of three runs, or the first within the limit."""
    best = float("inf")
    for _ in range(3):
        began = process_time()
        work()
        best = min(best, process_time() - began)
        if best < limit:
            break
    return best


def stream(raw: bytes, size: int) -> None:
    translator = ANTHROPIC.stream(BODY, FALLBACK, [BlockStopHolder()])
    for place in range(0, len(raw), size):
        translator.feed(raw[place : place + size])
    translator.finish()


def message(raw: bytes, _size: int) -> None:
    try:
        to_message(raw)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("read", "size"), [(stream, 7), (stream, 1 << 20), (message, 0)], ids=["cut", "whole", "joined"]
)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_work_grows_with_the_length(
    answer: str, read: Callable[[bytes, int], None], size: int
) -> None:
    short, long = (ANSWERS[answer](length) for length in (1 << 14, 1 << 17))
    limit = 24 * max(seconds(lambda: read(short, size)), 0.0005)
    assert seconds(lambda: read(long, size), limit) < limit
