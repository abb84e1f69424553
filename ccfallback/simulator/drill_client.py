"""Claude Code in small: does a task over real sockets, and retries as it would."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.simulator.claude_code import ClientView, Ending, next_try
from ccfallback.simulator.scripted_format import LAST_WORD, TOOL

MODEL: Final = "claude-opus-4-5"
MOST_TURNS: Final = 20
KEY: Final = {"x-api-key": "drill-key"}
LOGIN: Final = {"authorization": "Bearer sk-ant-oat-drill"}
ASKED: Final = {"role": "user", "content": "Read /one.txt and /two.txt."}
TOOLS: Final = [
    {
        "name": TOOL,
        "description": "Reads a file.",
        "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}},
    }
]

Block = dict[str, Any]


@dataclass(slots=True)
class Task:
    """A task under way: what was said, seen and done."""

    client: httpx.AsyncClient
    url: str
    login: bool
    pause: Callable[[float], Awaitable[None]]
    after_request: Callable[[], None] = lambda: None
    seen: list[ClientView] = field(default_factory=list)
    """Every request of every turn."""
    answered_by: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    """Upstream requests for each of them."""
    done: bool = False
    messages: list[dict[str, Any]] = field(default_factory=lambda: [ASKED])

    async def run(self) -> None:
        """Work until the model has had its last word, or a turn is lost."""
        for _ in range(MOST_TURNS):
            content = await self._turn()
            if content is None:
                return
            calls = [block for block in content if block["type"] == "tool_use"]
            if not calls:
                self.done = any(block.get("text") == LAST_WORD for block in content)
                return
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": "read"}
                for call in calls
            ]
            self.messages += [
                {"role": "assistant", "content": content},
                {"role": "user", "content": results},
            ]

    async def _turn(self) -> list[Block] | None:
        """The content of an answer; `None` if the client would show an error."""
        seen: list[ClientView] = []
        stream = True
        while True:
            sight, content = await self._request(stream=stream)
            self.after_request()
            seen.append(sight)
            self.seen.append(sight)
            # A tool whose call has come whole has run, whatever came afterwards.
            if sight.ending is Ending.ANSWERED or any(b["type"] == "tool_use" for b in content):
                return content
            again = next_try(seen, login=self.login)
            if again is None:
                return None
            await self.pause(again.wait)
            stream = again.stream

    async def _request(self, *, stream: bool) -> tuple[ClientView, list[Block]]:
        body = {
            "model": MODEL,
            "max_tokens": 1000,
            "stream": stream,
            "tools": TOOLS,
            "messages": self.messages,
        }
        raw = b""
        try:
            async with self.client.stream(
                "POST",
                f"{self.url}/v1/messages?beta=true",
                json=body,
                headers=LOGIN if self.login else KEY,
            ) as response:
                self._note(response)
                async for chunk in response.aiter_bytes():
                    raw += chunk
        except httpx.TransportError:
            blocks = _whole_blocks(raw)
            return ClientView(Ending.DROPPED, stream, kept=bool(blocks)), blocks
        if response.status_code != 200:
            return _refused(response, raw, stream=stream), []
        return _read(response, raw, stream=stream)

    def _note(self, response: httpx.Response) -> None:
        self.attempts.append(int(response.headers.get("x-ccfallback-attempts", "0")))
        self.answered_by.append(response.headers.get("x-ccfallback-provider", ""))


def _refused(response: httpx.Response, raw: bytes, *, stream: bool) -> ClientView:
    try:
        message = str(msgspec.json.decode(raw)["error"]["message"])
    except (msgspec.DecodeError, TypeError, KeyError):
        message = ""
    wait = response.headers.get("retry-after", "")
    return ClientView(
        Ending.STATUS,
        stream,
        status=response.status_code,
        message=message,
        retry_after=float(wait) if wait.isdigit() else 0.0,
        should_retry=response.headers.get("x-should-retry", ""),
    )


def _read(response: httpx.Response, raw: bytes, *, stream: bool) -> tuple[ClientView, list[Block]]:
    if "event-stream" not in response.headers.get("content-type", ""):
        try:
            content = msgspec.json.decode(raw)["content"]
        except (msgspec.DecodeError, TypeError, KeyError):
            return ClientView(Ending.MALFORMED, stream, 200), []
        return ClientView(Ending.ANSWERED, stream, 200), list(content)
    events = _events(raw)
    kinds = [event.get("type") for event in events]
    blocks = _whole_blocks(raw)
    if "error" in kinds:
        error = events[kinds.index("error")].get("error") or {}
        overloaded = error.get("type") == "overloaded_error" and "content_block_start" not in kinds
        ending = Ending.ERROR_EVENT
        return ClientView(ending, stream, 200, overloaded=overloaded, kept=bool(blocks)), blocks
    if any(kind is None for kind in kinds):
        return ClientView(Ending.MALFORMED, stream, 200, kept=bool(blocks)), blocks
    if any((event.get("delta") or {}).get("stop_reason") for event in events):
        return ClientView(Ending.ANSWERED, stream, 200), list(
            msgspec.json.decode(to_message(raw))["content"]
        )
    return ClientView(Ending.ENDED_EARLY, stream, 200, kept=bool(blocks)), blocks


def _events(raw: bytes) -> list[dict[str, Any]]:
    """The events that came whole; one that is not JSON has no type."""
    found: list[dict[str, Any]] = []
    for event in EventSplitter().feed(raw):
        data = data_of(event)
        if not data:
            continue
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError:
            value = None
        found.append(value if isinstance(value, dict) else {})
    return found


def _whole_blocks(raw: bytes) -> list[Block]:
    """The blocks of a broken stream that had come to their ends."""
    events = [event for event in EventSplitter().feed(raw) if data_of(event)]
    ended = [i for i, each in enumerate(events) if b'"content_block_stop"' in each]
    if not ended:
        return []
    message = msgspec.json.decode(to_message(b"".join(events[: ended[-1] + 1])))
    return list(message["content"])
