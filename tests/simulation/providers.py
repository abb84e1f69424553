"""The providers of a history: servers that answer as their weather lets them, and write it down."""

import asyncio
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

import httptools

from tests.simulation.answers import End, Plan, Question, Usage, error_body, whole
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import OPEN, Door, Listener, Network, Transport
from tests.simulation.seams import NOW
from tests.simulation.weather import KINDS, Kind, Moment, healthy

CANARY: Final = b"CANARY"
"""Stands in all that no fallback may see."""

KEY: Final = re.compile(rb"KEY-([a-z0-9-]+)")
GENERATION: Final = re.compile(rb"sk-ant-oat-CANARY-\w+-g(\d+)")
PLAN: Final = re.compile(rb"sk-ant-oat-CANARY-(\w+?)-g")

PRIMARY: Final = "anthropic-primary"


@dataclass
class Exchange:
    """A request that a provider got, and what became of it."""

    provider: str
    question: Question
    began: float
    weather: str
    plan: Plan
    ended: float | None = None
    """When the last step was sent or the connection closed; `None` while it runs."""
    is_sent: bool = False
    """Whether all of the plan was sent."""
    wall: float = 0.0
    """When it began by the machine's own clock."""
    shown: str = ""
    """The person whose login it showed, if it was a plan's."""


@dataclass
class SimulatedProvider:
    """One provider: where it is, and its weather."""

    name: str
    format: str
    host: str
    number: int
    chance: Random
    loop: SimulatedLoop
    events: list[Mapping[str, Any]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    generation: int = 0
    """Logins older than this have expired, at the primary."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return (f"198.51.100.{self.number + 1}", 443)

    def weather(self, shown: bytes = b"") -> tuple[str, Mapping[str, Any]] | None:
        """The kind of weather that a request meets now; some concerns one person's login only."""
        return next(
            (
                (str(event["kind"]), event)
                for event in reversed(self.events)
                if event["at"] <= NOW.elapsed < event["at"] + event["for"]
                and ("person" not in event or f"CANARY-{event['person']}".encode() in shown)
                and (event.get("share", 1.0) >= 1.0 or self.chance.random() < event["share"])
            ),
            None,
        )

    def door(self) -> Door:
        """What an attempt to connect meets now."""
        found = self.weather()
        return OPEN if found is None else KINDS[found[0]].door

    def look_up_error(self) -> OSError | None:
        """Whether its name is gone."""
        found = self.weather()
        if found is not None and KINDS[found[0]].unknown_name:
            return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return None

    def was_well(self, began: float, ended: float, person: str, *, remembers: bool = False) -> bool:
        """Whether it had nothing but harmless weather for a person; with `remembers`, no cooldown.

        A clock that is wrong may make a time that it has told lie hours away.
        """
        for event in self.events:
            kind = KINDS[str(event["kind"])]
            memory = 0.0
            if remembers:
                memory = kind.memory if not NOW.jumped or kind.memory == 330.0 else 22000.0
                # What it has told of its end was meant before the quiet hour cut it short.
                memory += event.get("told", event["for"]) - event["for"]
            begins, ends = event["at"] < ended, event["at"] + event["for"] + memory
            is_anothers = event.get("person", person) != person
            if not kind.harmless and not is_anothers and begins and ends > began:
                return False
        return True

    def plan(
        self, raw: bytes, headers: Mapping[bytes, bytes], path: str = ""
    ) -> tuple[str, Plan, Question]:
        """The answer to a request."""
        question = Question.read(raw, self.format, path)
        usage = Usage(100 + len(raw) // 4, 5 + int(self.chance.random() * 400))
        moment = Moment(
            question,
            usage,
            round(0.3 + self.chance.random() * 1.7, 3),
            round(0.1 + self.chance.random() * 0.6, 3),
            self.chance.random(),
            {},
        )
        if self._has_expired(headers):
            body = error_body(self.format, "authentication_error", "OAuth token has expired")
            return "expired-login", Plan([(0.1, whole(401, body))], 401), question
        found = self.weather(headers.get(b"authorization", b"") + headers.get(b"x-api-key", b""))
        if found is None:
            return "", healthy(moment), question
        name, event = found
        kind: Kind = KINDS[name]
        moment = Moment(question, usage, moment.first, moment.gap, moment.chance, event)
        return name, (kind.plan or healthy)(moment), question

    def _has_expired(self, headers: Mapping[bytes, bytes]) -> bool:
        found = GENERATION.search(headers.get(b"authorization", b""))
        return found is not None and int(found[1]) < self.generation

    def inspect(self, raw: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Look for what this provider may not get."""
        head = b"\n".join(name + b": " + value for name, value in headers)
        if self.name != PRIMARY and CANARY in head + raw:
            place = (head + raw).index(CANARY)
            self.leaks.append(f"{self.name} got {(head + raw)[max(0, place - 30) : place + 20]!r}")
        for found in KEY.findall(head + raw):
            if found.decode() != self.name:
                self.leaks.append(f"{self.name} got the key of {found.decode()}")


class ProviderConnection(asyncio.Protocol):
    """A connection to a provider."""

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Transport
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._path = b""
        self._timer: asyncio.TimerHandle | None = None
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The proxy has connected."""
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The proxy has sent something."""
        self._parser.feed_data(data)

    def eof_received(self) -> bool:
        """The proxy has closed its side."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._finish(is_sent=False)

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._headers, self._body, self._path = [], [], b""

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        provider, raw = self._provider, b"".join(self._body)
        provider.inspect(raw, self._headers)
        headers = dict(self._headers)
        name, plan, question = provider.plan(raw, headers, self._path.decode("latin-1"))
        found = PLAN.search(headers.get(b"authorization", b""))
        self._exchange = Exchange(
            provider.name, question, NOW.elapsed, name, plan,
            wall=NOW.wall, shown=found[1].decode() if found else "",
        )  # fmt: skip
        provider.exchanges.append(self._exchange)
        self._send(0)

    def _send(self, number: int) -> None:
        exchange = self._exchange
        assert exchange is not None
        if number == len(exchange.plan.steps):
            self._finish(is_sent=True)
            return
        pause, _ = exchange.plan.steps[number]
        self._timer = self._provider.loop.call_later(pause, self._take_step, number)

    def _take_step(self, number: int) -> None:
        assert self._exchange is not None
        _, what = self._exchange.plan.steps[number]
        if isinstance(what, End):
            self._finish(is_sent=True)
            if what.is_reset:
                self._transport.reset()
            else:
                self._transport.close()
            return
        self._transport.write(what)
        self._send(number + 1)

    def _finish(self, *, is_sent: bool) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.ended is None:
            exchange.ended, exchange.is_sent = NOW.elapsed, is_sent


def open_provider(provider: SimulatedProvider, network: Network) -> None:
    """Let a provider listen."""
    sock = socket_at(provider.address)
    network.names[provider.host] = provider.address[0]
    network.listeners[provider.address] = Listener(
        network, lambda: ProviderConnection(provider), sock
    )


def socket_at(address: tuple[str, int]) -> Any:
    """A socket with an address."""
    from tests.simulation.network import Socket

    return Socket(address=address)
