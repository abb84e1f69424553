"""Claude Code as far as a proxy meets it: sessions, agents, tools, retries, and its login.

The numbers were measured; `simulator.claude_code` has the table of its retries.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools
import msgspec

from ccfallback.simulator.claude_code import ClientView, Ending, Retry, next_try
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Address, Network, Transport
from tests.simulation.seams import NOW

SILENCE: Final = 300.0
"""Seconds without a byte after which it gives a stream up."""

PATIENCE: Final = 600.0
"""Seconds that it waits for a response to begin, and for a whole answer."""

COUNTS: Final = 6
"""Counts that `/context` asks for at once; the real client asks for 26."""

TOOL_SECONDS: Final = 0.4
MODELS: Final = ("claude-opus-5-5", "claude-haiku-4-5")

Block = dict[str, Any]

TOOLS: Final = [
    {
        "name": "Bash",
        "description": "Runs a command.",
        "input_schema": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    }
]


FEATURES: Final[dict[str, dict[str, Any]]] = {
    "context_management": {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
    "effort": {"output_config": {"effort": "medium"}},
    "thinking": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "tokens": {"max_tokens": 64000},
    "system_turns": {},
}
"""What newer versions send, and leave out where it is refused."""

LADDER: Final = (
    ("context_management: Extra inputs", "context_management"),
    ("does not support the effort parameter", "effort"),
    ("adaptive thinking is not supported", "thinking"),
    ("which is the maximum", "tokens"),
    ("role: Input should be 'user' or 'assistant'", "system_turns"),
)
"""What the text of a 400 lets the client leave out, before it sends the request again at once."""

TOO_LONG: Final = "prompt is too long"
"""After a 400 with this text the client compacts the conversation."""

MOST_COMPACTIONS: Final = 3

WIDTH: Final = 8000
"""Bytes of a tool's result in a wide turn."""


@dataclass
class Request:
    """One request, as its client saw it."""

    turn: str
    began: float
    stream: bool
    ended: float = 0.0
    ending: str = ""
    status: int | None = None
    id: str = ""
    provider: str = ""
    first_byte: float | None = None
    attempts: int = 0
    """Upstream requests that were made for it."""
    raw: bytes = field(default=b"", repr=False)

    @property
    def is_too_long(self) -> bool:
        """Whether the client was told so."""
        return self.status == 400 and TOO_LONG.encode() in self.raw


@dataclass
class Look:
    """What `/context` and the list of models were answered, and what that did to the breakers."""

    person: str
    began: float
    requests: list[Request] = field(default_factory=list)
    ended: float = 0.0
    change: str = ""
    """How the breakers differ, if no other request was under way."""


@dataclass
class Turn:
    """One turn of a conversation: a question, and its answer after however many requests."""

    name: str
    began: float
    ended: float = 0.0
    outcome: str = ""
    requests: list[Request] = field(default_factory=list)
    answer: str = ""
    is_wide: bool = False
    """Whether its tools print much."""
    compactions: int = 0

    @property
    def person(self) -> str:
        """Whose turn it is."""
        return self.name[:2]


class ClientConnection(asyncio.Protocol):
    """One request over one connection."""

    def __init__(self, loop: SimulatedLoop, request: Request) -> None:
        self._loop = loop
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[None] = loop.create_future()
        self.headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self.is_complete = False
        self._last = NOW.elapsed
        self.transport: Transport
        self._timer: asyncio.TimerHandle

    @property
    def raw(self) -> bytes:
        """All of the body so far."""
        return b"".join(self._pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._timer = self._loop.call_later(PATIENCE, self._check)
        self.transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The proxy has sent something."""
        if self._request.first_byte is None:
            self._request.first_byte = NOW.elapsed
            self._timer.cancel()
            self._timer = self._loop.call_later(SILENCE, self._check)
        self._last = NOW.elapsed
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def eof_received(self) -> bool:
        """The proxy has closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._timer.cancel()
        if not self.done.done():
            self.done.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The status is known."""
        self._request.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The response is complete."""
        self.is_complete = True
        if not self.done.done():
            self.done.set_result(None)

    def _check(self) -> None:
        left = self._last + SILENCE - NOW.elapsed
        if self._request.first_byte is not None and left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self.transport.abort()


@dataclass
class Login:
    """The credential of a person, which may be renewed."""

    person: str
    is_plan: bool
    generation: int = 0
    renewals: int = 0

    def renew(self, generation: int) -> None:
        """Get a new token, of the newest generation."""
        self.generation = generation
        self.renewals += 1

    def headers(self) -> str:
        """What a request shows."""
        if self.is_plan:
            token = f"sk-ant-oat-CANARY-{self.person}-g{self.generation}-{self.renewals}"
            return f"authorization: Bearer {token}\r\nanthropic-beta: oauth-2025-04-20\r\n"
        return f"x-api-key: sk-ant-CANARY-{self.person}\r\n"


@dataclass
class Client:
    """One Claude Code process: a person's session with its agents."""

    loop: SimulatedLoop
    network: Network
    address: Callable[[], Address]
    login: Login
    session: str
    current_generation: Callable[[], int]
    trace: Callable[[str], None]
    turns: list[Turn]
    tools: dict[str, int]
    """How often each command has run."""
    model: str = MODELS[0]
    has_features: bool = False
    """Whether it sends what newer versions do, and follows their ladder after a 400."""

    async def look(self, states: Callable[[], tuple[int, Any] | None], looks: list[Look]) -> None:
        """Ask for what `/context` shows, and for the models.

        `states` has a count of other requests and what the breakers are, if nothing else can
        change them.
        """
        look = Look(self.login.person, NOW.elapsed)
        before = states()
        body = msgspec.json.encode(
            {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
        )
        paths = [("POST", "/v1/messages/count_tokens?beta=true", body)] * COUNTS
        looks.append(look)
        asking = [self._ask_aside(look, *each) for each in (*paths, ("GET", "/v1/models", b""))]
        await asyncio.gather(*asking)
        look.ended = NOW.elapsed
        after = states()
        if before and after and before[0] == after[0] and before[1] != after[1]:
            look.change = f"{before[1]} became {after[1]}"

    async def _ask_aside(self, look: Look, method: str, path: str, body: bytes) -> None:
        request = Request(path.partition("?")[0], NOW.elapsed, stream=False)
        look.requests.append(request)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:8787\r\n"
            f"user-agent: claude-cli/2.1.330 (external, cli)\r\nx-app: cli\r\n"
            f"{self.login.headers()}content-length: {len(body)}\r\n\r\n"
        )
        await self._exchange(request, head.encode() + body)

    async def converse(
        self, name: str, steps: int, agents: int = 0, agent_id: str = "", *, is_wide: bool = False
    ) -> str:
        """Ask a question and work until the last word; returns the outcome of the turn.

        A turn is one question with all tools that its model calls.
        """
        turn = Turn(name, NOW.elapsed, is_wide=is_wide)
        self.turns.append(turn)
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": f"please [[{name}k0n{steps}]]"},
        ]
        helpers: list[asyncio.Task[str]] = []
        try:
            for step in range(steps + 1):
                content = await self._ask(turn, messages, agent_id)
                if content is None:
                    turn.outcome = "lost"
                    break
                if step == 0:
                    helpers = [
                        asyncio.ensure_future(self.converse(f"{name}a{i}", 1, agent_id=f"a{i}"))
                        for i in range(agents)
                    ]
                calls = [block for block in content if block["type"] == "tool_use"]
                if not calls:
                    turn.answer = "".join(each.get("text", "") for each in content)
                    turn.outcome = "answered"
                    break
                messages.append({"role": "assistant", "content": content})
                results = await self._run_tools(calls, steps, WIDTH if is_wide else 0)
                messages.append({"role": "user", "content": results})
            else:
                turn.outcome = "endless"
            for helper in helpers:
                await helper
        except asyncio.CancelledError:
            turn.outcome = "stopped"
            for helper in helpers:
                helper.cancel()
            raise
        finally:
            turn.ended = NOW.elapsed
            self.trace(f"turn {name} {turn.outcome} after {len(turn.requests)} requests")
        return turn.outcome

    async def _run_tools(self, calls: list[Block], steps: int, width: int) -> list[Block]:
        results = []
        for call in calls:
            command = str(call["input"].get("command", call["input"]))
            self.tools[command] = self.tools.get(command, 0) + 1
            text = f"{'word ' * (width // 5)}ran [[{command}n{steps}]]"
            results.append({"type": "tool_result", "tool_use_id": call["id"], "content": text})
        await asyncio.sleep(TOOL_SECONDS)
        return results

    async def _ask(
        self, turn: Turn, messages: list[dict[str, Any]], agent_id: str
    ) -> list[Block] | None:
        """The content of an answer; `None` where the person would see an error."""
        seen: list[ClientView] = []
        stream, without = True, list[str]()
        while True:
            request = Request(turn.name, NOW.elapsed, stream)
            turn.requests.append(request)
            view, content = await self._send(request, messages, agent_id, without)
            seen.append(view)
            if view.ending is Ending.ANSWERED:
                return content
            calls = [block for block in content if block["type"] == "tool_use"]
            if calls:
                # A tool whose call was complete has run, whatever came afterwards.
                return content
            if request.is_too_long and turn.compactions < MOST_COMPACTIONS:
                turn.compactions += 1
                await self._compact(turn, messages, agent_id)
                seen.clear()
                continue
            retry = self._next_try(seen)
            if view.status == 401 and self.login.is_plan:
                # Goes on if the person stops the turn, and after the last try for the next turn.
                self.login.renew(self.current_generation())
            if retry is None:
                return None
            if view.status == 401 and self.login.is_plan:
                await asyncio.sleep(1.0)
            if view.status in (400, 422):
                text = next((f for words, f in LADDER if words in view.message), "")
                left = [each for each in FEATURES if each not in without]
                without.append(text if text in left else next(iter(left), ""))
            if retry.wait:
                await asyncio.sleep(retry.wait)
            stream = retry.stream

    def _next_try(self, seen: list[ClientView]) -> Retry | None:
        last = seen[-1]
        if last.status in (400, 422):
            # It changes its request up to five times, unless it knows that this is of no use.
            is_known = "prompt is too long" in last.message or "credit balance" in last.message
            tries = sum(view.status == last.status for view in seen)
            return None if is_known or tries > 5 else Retry(last.stream, 0.01)
        return next_try(seen, login=self.login.is_plan)

    async def _compact(self, turn: Turn, messages: list[dict[str, Any]], agent_id: str) -> None:
        """Have the conversation summed up by a request of its own, and go on with the sum of it."""
        last = messages[-1]["content"]
        text = last if isinstance(last, str) else last[-1]["content"]
        mark = text[text.rindex("[[") :]
        await self.converse(f"{turn.name}c", 0, agent_id=agent_id)
        messages[:] = [{"role": "user", "content": f"so far: much. {mark}"}]

    async def _send(
        self, request: Request, messages: list[dict[str, Any]], agent_id: str, without: list[str]
    ) -> tuple[ClientView, list[Block]]:
        return await self._exchange(request, self._encode(request, messages, agent_id, without))

    async def _exchange(self, request: Request, data: bytes) -> tuple[ClientView, list[Block]]:
        try:
            transport, protocol = self.network.join(
                ClientConnection(self.loop, request), self.address()
            )
        except ConnectionRefusedError:
            request.ended, request.ending = NOW.elapsed, "refused"
            return ClientView(Ending.DROPPED, request.stream), []
        connection = cast(ClientConnection, protocol)
        transport.write(data)
        try:
            await connection.done
        except asyncio.CancelledError:
            request.ending = "aborted"
            raise
        finally:
            request.ended = NOW.elapsed
            request.id = connection.headers.get(b"ccr-request-id", b"").decode()
            request.provider = connection.headers.get(b"x-ccfallback-provider", b"").decode()
            request.attempts = int(connection.headers.get(b"x-ccfallback-attempts", b"0"))
            request.raw = connection.raw
            transport.close()
        view, content = _read(request, connection)
        request.ending = str(view.ending)
        self.trace(
            f"request {request.turn} {request.id} {view.ending} {request.status} "
            f"by {request.provider or '-'}"
        )
        return view, content

    def _encode(
        self, request: Request, messages: list[dict[str, Any]], agent_id: str, without: list[str]
    ) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": 64000 if request.stream else 32000,
            "stream": request.stream,
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=CANARY;"},
                {"type": "text", "text": "You are Claude Code."},
            ],
            "tools": TOOLS,
            "metadata": {"user_id": f'{{"device_id":"CANARY-{self.login.person}"}}'},
            "messages": messages,
        }
        if self.has_features:
            for name in FEATURES:
                if name not in without:
                    body |= FEATURES[name]
            if "tokens" in without:
                body["max_tokens"] = 32000
            if "system_turns" not in without:
                environment = {"role": "system", "content": "# Environment"}
                body["messages"] = [messages[0], environment, *messages[1:]]
        elif not without:
            body |= FEATURES["context_management"]
        raw = msgspec.json.encode(body)
        agent = f"x-claude-code-agent-id: {agent_id}\r\n" if agent_id else ""
        head = (
            "POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:8787\r\n"
            "content-type: application/json\r\nuser-agent: claude-cli/2.1.330 (external, cli)\r\n"
            f"x-app: cli\r\nx-stainless-timeout: {600 if request.stream else 300}\r\n"
            "anthropic-version: 2023-06-01\r\n"
            f"x-claude-code-session-id: {self.session}\r\n{agent}"
            f"cookie: session=CANARY\r\n{self.login.headers()}"
            f"content-length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw


def _read(request: Request, connection: ClientConnection) -> tuple[ClientView, list[Block]]:
    """What the client makes of a response."""
    raw, status, stream = request.raw, request.status, request.stream
    if status is None:
        return ClientView(Ending.DROPPED, stream), []
    if status != 200:
        wait = connection.headers.get(b"retry-after", b"").decode()
        should = connection.headers.get(b"x-should-retry", b"").decode()
        if not connection.is_complete:
            return ClientView(Ending.DROPPED, stream, status), []
        return ClientView(
            Ending.STATUS,
            stream,
            status,
            raw.decode("utf-8", "replace"),
            float(wait) if wait.isdigit() else 0.0,
            should,
        ), []
    if b"event-stream" not in connection.headers.get(b"content-type", b""):
        if not connection.is_complete:
            return ClientView(Ending.DROPPED, stream, status), []
        try:
            return ClientView(Ending.ANSWERED, stream, 200), msgspec.json.decode(raw)["content"]
        except (msgspec.DecodeError, TypeError, KeyError):
            return ClientView(Ending.MALFORMED, stream, 200), []
    return _read_stream(raw, stream=stream, is_complete=connection.is_complete)


def _read_stream(raw: bytes, *, stream: bool, is_complete: bool) -> tuple[ClientView, list[Block]]:
    blocks: dict[int, Block] = {}
    finished: list[Block] = []
    stopped = overloaded = False
    for event in raw.split(b"\n\n")[:-1]:
        data = event.partition(b"data: ")[2]
        try:
            value = msgspec.json.decode(data) if data else {}
        except msgspec.DecodeError:
            return ClientView(Ending.MALFORMED, stream, 200), finished
        match value.get("type"):
            case "content_block_start":
                blocks[value["index"]] = {**value["content_block"], "_json": ""}
            case "content_block_delta":
                block, delta = blocks[value["index"]], value["delta"]
                block["_json"] += delta.get("partial_json", "")
                if "text" in delta:
                    block["text"] += delta["text"]
            case "content_block_stop":
                block = blocks[value["index"]]
                written = block.pop("_json")
                if written:
                    block["input"] = msgspec.json.decode(written)
                finished.append(block)
            case "message_delta":
                stopped = stopped or bool(value["delta"].get("stop_reason"))
            case "error":
                kind = (value.get("error") or {}).get("type")
                overloaded = kind == "overloaded_error" and not blocks
                return ClientView(
                    Ending.ERROR_EVENT, stream, 200, overloaded=overloaded, kept=bool(finished)
                ), finished
    if stopped:
        return ClientView(Ending.ANSWERED, stream, 200), finished
    ending = Ending.ENDED_EARLY if is_complete else Ending.DROPPED
    return ClientView(ending, stream, 200, kept=bool(finished)), finished
