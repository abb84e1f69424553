"""Helpers for tests of answers: an upstream's chunks, and any way to cut them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from ccfallback.messages.body import Body
from ccfallback.wire.openai.stream import OpenAIStream

DONE = b"data: [DONE]\n\n"
NOT_THINKING = Body.parse(b'{"model":"claude-x","max_tokens":9,"messages":[],"stream":true}')


def body(**members: Any) -> Body:
    """What a client asks, thinking included."""
    defaults: dict[str, Any] = {
        "model": "claude-x",
        "thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "hi"}],
    }
    return Body.parse(msgspec.json.encode({**defaults, **members}))


ASKED = body()


def line(value: Any) -> bytes:
    """An event that carries this."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    """A chunk of the reference's shape."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return line({**head, "choices": [choice], **more})


def says(text: str) -> bytes:
    """A piece of text."""
    return chunk({"content": text})


def calls(*pieces: dict[str, Any]) -> bytes:
    """Pieces of calls."""
    return chunk({"tool_calls": list(pieces)})


def piece(
    index: int | None = None, tool_id: str | None = None, name: str | None = None, args: Any = None
) -> dict[str, Any]:
    """A piece of a call."""
    function = {"name": name, "arguments": args}
    given = {"index": index, "id": tool_id}
    return {
        **{key: value for key, value in given.items() if value is not None},
        "function": {key: value for key, value in function.items() if value is not None},
    }


def counted(prompt: int = 10, answer: int = 2, **more: Any) -> bytes:
    """The last chunk of the reference."""
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, **more}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk"}
    return line({**head, "choices": [], "usage": usage})


def completion(message: dict[str, Any], finish: Any = "stop", **more: Any) -> bytes:
    """A whole answer."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m"}
    return msgspec.json.encode({**head, "choices": [choice], "usage": usage, **more})


@dataclass
class Translated:
    """What became of a stream."""

    out: bytes
    stream: OpenAIStream

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the events carry."""
        parts = self.out.decode().split("\n\n")
        assert parts.pop() == ""
        found = []
        for part in parts:
            name, data = part.split("\n")
            value = msgspec.json.decode(data.removeprefix("data: "))
            assert name == f"event: {value['type']}"
            found.append(value)
        return found

    @property
    def brief(self) -> list[Any]:
        """The events at a glance: `+0 text`, the pieces, `-0`, the stop reason."""
        return [_brief(event) for event in self.events]

    @property
    def blocks(self) -> list[tuple[Any, ...]]:
        """The content: type, what is in it, and for a call its id and name before that."""
        found: list[list[Any]] = []
        for event in self.events:
            if event["type"] == "content_block_start":
                block = event["content_block"]
                known = [block["id"], block["name"]] if "id" in block else []
                found.append([block["type"], *known, ""])
            elif event["type"] == "content_block_delta":
                _, said = event["delta"].values()
                if event["delta"]["type"] != "signature_delta":
                    found[-1][-1] += said
        return [tuple(block) for block in found]

    @property
    def end(self) -> dict[str, Any]:
        """The event with the stop reason."""
        return next(event for event in self.events if event["type"] == "message_delta")

    @property
    def stop_reason(self) -> Any:
        """Why it ended."""
        return self.end["delta"]["stop_reason"]


def _brief(event: dict[str, Any]) -> Any:
    match event["type"]:
        case "content_block_start":
            return f"+{event['index']} {event['content_block']['type']}"
        case "content_block_delta":
            kind, said = event["delta"].values()
            return "signature" if kind == "signature_delta" else said
        case "content_block_stop":
            return f"-{event['index']}"
        case "message_delta":
            return event["delta"]["stop_reason"]
        case kind:
            return kind


def translate(
    *reads: bytes,
    client_body: Body = ASKED,
    ended: bool = True,
    think_tags: bool = False,
    think_start: bool = False,
) -> Translated:
    """What comes out of these reads, and of the end after them."""
    stream = OpenAIStream(client_body, think_tags=think_tags, think_start=think_start)
    out = b"".join(stream.feed(read) for read in reads)
    if ended:
        out += stream.finish()
    return Translated(out, stream)


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """A stream in pieces."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


def each_byte(stream: bytes) -> list[bytes]:
    """A stream byte by byte."""
    return [stream[i : i + 1] for i in range(len(stream))]
