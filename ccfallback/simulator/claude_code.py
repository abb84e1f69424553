"""Claude Code in small: it does a task over real sockets, and retries as Claude Code does.

`drill` judges by this model whether a turn would be lost. The numbers were measured; where they
leave a doubt, the model gives up.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import httpx
import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.simulator.scripted_format import LAST_WORD, TOOL

MOST_TRIES: Final = 11
PATIENCE: Final = 60.0
"""The longest `retry-after` that it waits for, in seconds."""

GAPS: Final = (0.6, 1.2, 2.2, 4.5, 9.0, 18.0, 36.0)
"""Seconds before each retry; the last number repeats."""

RETRIED: Final = frozenset({401, 408, 409, 429})

MODEL: Final = "claude-opus-4-5"
MOST_TURNS: Final = 20
CLIENT: Final = {"user-agent": "claude-cli/2.1.330 (external, cli)", "x-app": "cli"}
KEY: Final = {"x-api-key": "drill-key"}
TOKEN: Final = "sk-ant-oat-drill"
"""The login of the client, if it has one."""
QUESTION: Final = {"role": "user", "content": "Read /one.txt and /two.txt."}
TOOLS: Final = [
    {
        "name": TOOL,
        "description": "Reads a file.",
        "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}},
    }
]

Block = dict[str, Any]


class Ending(StrEnum):
    """How one request ended."""

    ANSWERED = "answered"
    STATUS = "status"
    DROPPED = "dropped"
    """The connection broke, before or within the answer."""
    ENDED_EARLY = "ended early"
    """A stream ended cleanly, but without a stop reason."""
    ERROR_EVENT = "error event"
    MALFORMED = "malformed"
    """A 200 that is not an answer."""


@dataclass(frozen=True, slots=True)
class ClientView:
    """What the client saw of one request."""

    ending: Ending
    stream: bool
    status: int | None = None
    message: str = ""
    retry_after: float = 0.0
    should_retry: str = ""
    overloaded: bool = False
    """Whether an error event reported an overload before any content."""
    kept: bool = False
    """Whether one of its blocks was complete: the client keeps that and does not retry."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry: as a stream or not, and after how many seconds."""

    stream: bool
    wait: float


def next_try(seen: Sequence[ClientView], *, login: bool) -> Retry | None:
    """The retry after the failed requests of a turn; `None` shows the user an error."""
    last, tries = seen[-1], len(seen)
    if tries >= MOST_TRIES or last.ending is Ending.ANSWERED or last.kept:
        return None
    gap = GAPS[min(tries, len(GAPS)) - 1]
    match last.ending:
        case Ending.DROPPED:
            return Retry(last.stream, gap)
        case Ending.STATUS:
            return _after_status(seen, gap, login=login)
        case Ending.ERROR_EVENT if last.overloaded and sum(s.overloaded for s in seen) < 3:
            return Retry(last.stream, gap)
        case _:
            # After a malformed stream it tries once more, without streaming.
            return Retry(stream=False, wait=0.0) if last.stream else None


def _after_status(seen: Sequence[ClientView], gap: float, *, login: bool) -> Retry | None:
    last = seen[-1]
    status = last.status or 0
    if last.should_retry == "false" or last.retry_after > PATIENCE:
        return None
    if status == 404:
        return Retry(stream=False, wait=0.0) if last.stream else None
    if status == 401 and login:
        # It renews its login once.
        refusals = sum(view.status == 401 for view in seen)
        return Retry(last.stream, 0.0) if refusals == 1 else None
    if status in RETRIED or status >= 500 or last.should_retry == "true":
        return Retry(last.stream, max(gap, last.retry_after))
    # It follows a redirect, to an address that serves no messages.
    return Retry(last.stream, gap) if 300 <= status < 400 else None


@dataclass(slots=True)
class Task:
    """A task: its conversation, and what the client saw of each request."""

    client: httpx.AsyncClient
    url: str
    login: bool
    pause: Callable[[float], Awaitable[None]]
    after_request: Callable[[ClientView], None] = lambda _: None
    token: str = TOKEN
    """The login, if it has one instead of a key."""
    seen: list[ClientView] = field(default_factory=list)
    """Every request of every turn."""
    answered_by: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    """Upstream requests for each answer."""
    done: bool = False
    messages: list[dict[str, Any]] = field(default_factory=lambda: [QUESTION])

    async def run(self) -> None:
        """Work until the model has said its last word, or a turn is lost."""
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
        """The content of an answer; `None` where the client would show an error."""
        seen: list[ClientView] = []
        stream = True
        while True:
            view, content = await self._request(stream=stream)
            self.after_request(view)
            seen.append(view)
            self.seen.append(view)
            # A tool whose call was complete has run, whatever came afterwards.
            if view.ending is Ending.ANSWERED or any(b["type"] == "tool_use" for b in content):
                return content
            retry = next_try(seen, login=self.login)
            if retry is None:
                return None
            await self.pause(retry.wait)
            stream = retry.stream

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
                headers={**CLIENT, **self._credential()},
            ) as response:
                self._count(response)
                async for chunk in response.aiter_bytes():
                    raw += chunk
        except httpx.TransportError:
            blocks = _complete_blocks(raw)
            return ClientView(Ending.DROPPED, stream, kept=bool(blocks)), blocks
        if response.status_code != 200:
            return _read_refusal(response, raw, stream=stream), []
        return _read_answer(response, raw, stream=stream)

    def _credential(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.login else KEY

    def _count(self, response: httpx.Response) -> None:
        self.attempts.append(int(response.headers.get("x-ccfallback-attempts", "0")))
        self.answered_by.append(response.headers.get("x-ccfallback-provider", ""))


def _read_refusal(response: httpx.Response, raw: bytes, *, stream: bool) -> ClientView:
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


def _read_answer(
    response: httpx.Response, raw: bytes, *, stream: bool
) -> tuple[ClientView, list[Block]]:
    if "event-stream" not in response.headers.get("content-type", ""):
        try:
            content = msgspec.json.decode(raw)["content"]
        except (msgspec.DecodeError, TypeError, KeyError):
            return ClientView(Ending.MALFORMED, stream, 200), []
        return ClientView(Ending.ANSWERED, stream, 200), list(content)
    events = _events(raw)
    kinds = [event.get("type") for event in events]
    blocks = _complete_blocks(raw)
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
    """The complete events; one that is not JSON has no type."""
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


def _complete_blocks(raw: bytes) -> list[Block]:
    """The blocks of a broken stream that were complete."""
    events = [event for event in EventSplitter().feed(raw) if data_of(event)]
    ended = [i for i, each in enumerate(events) if b'"content_block_stop"' in each]
    if not ended:
        return []
    message = msgspec.json.decode(to_message(b"".join(events[: ended[-1] + 1])))
    return list(message["content"])
