"""A developer's week with a virtual clock: what the modes of `[failback]` cost, and how they move.

`python -m tests.week` prints the table. Two people share a machine: one with an API key, one with
the login of a plan, whose 5-hour window is full every day from 14:05 to 15:30. The primary has
outages, and comes and goes for an hour on Wednesday. The fallback is Amazon Bedrock in a region.
Every request is decided by the program's own policy and priced by its own table.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from msgspec.structs import replace

from ccfallback.config import prices
from ccfallback.config.model import PRIMARY_NAME, PRIMARY_URL, Provider
from ccfallback.messages.tokens import Usage
from ccfallback.policy.affinity import Cause, Decision, Return, Session, Sessions, decide
from ccfallback.policy.route import Decide, arrange
from ccfallback.policy.spend import NANO, PriceTable, Work, cost

MODEL: Final = "claude-opus-5-5"
BEDROCK_MODEL: Final = "eu.anthropic.claude-opus-5-5"
TTL: Final = 300.0
PLAN_TTL: Final = 3600.0
"""Seconds that the primary's cache lives for the login of a plan."""

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
FULL: Final = (14 * HOUR + 5 * 60, 15 * HOUR + 30 * 60)
"""When the plan's window is full, in seconds of the day."""

PRIMARY: Final = Provider(name=PRIMARY_NAME, base_url=PRIMARY_URL, primary=True)
BEDROCK: Final = Provider(
    name="bedrock",
    base_url="https://bedrock-runtime.eu-central-1.amazonaws.com",
    format="bedrock",
)
CHAIN: Final = (PRIMARY, BEDROCK)
TABLE: Final = PriceTable.read(prices.load())

FLAPPING: Final = (2 * DAY + 10 * HOUR, 2 * DAY + 11 * HOUR)
"""On Wednesday the primary is up and down for a minute each."""


@dataclass(frozen=True)
class Request:
    """One request of a session."""

    at: float
    login: str
    session: str
    tokens: int
    is_compacted: bool = False


def requests(login: str, seed: int) -> Iterator[Request]:
    """The requests of one person in a week: bursts, pauses, compactions and subagents."""
    random = Random(seed)
    for day in range(5):
        for begin, end in ((9 * HOUR, 12.5 * HOUR), (13.25 * HOUR, 17.75 * HOUR)):
            now, tokens, agents = day * DAY + begin, 30_000, 0
            session = f"{login}-{day}-{begin:.0f}"
            while now < day * DAY + end:
                for _ in range(random.randint(5, 30)):
                    now += random.uniform(8, 60)
                    tokens += random.randint(300, 3_000)
                    is_compacted = tokens > 160_000
                    tokens = 35_000 if is_compacted else tokens
                    yield Request(now, login, session, tokens, is_compacted)
                if random.random() < 0.3:
                    agents += 1
                    for turn in range(random.randint(4, 12)):
                        now += random.uniform(5, 20)
                        size = 20_000 + turn * 2_000
                        yield Request(now, login, f"{session}-agent-{agents}", size)
                now += random.choice((60.0, 120.0, 400.0, 1200.0))


def outages(seed: int) -> list[tuple[float, float]]:
    """When the primary is down."""
    random = Random(seed)
    found = []
    for day in range(5):
        for _ in range(4):
            begin = day * DAY + random.uniform(9, 17) * HOUR
            found.append((begin, begin + random.uniform(60, 1200)))
    minutes = range(int(FLAPPING[0]), int(FLAPPING[1]), 120)
    return found + [(float(begin), begin + 60.0) for begin in minutes]


@dataclass
class Figures:
    """What a week came to for one person."""

    dollars: float = 0.0
    reads: int = 0
    """Tokens that were read from a cache."""
    writes: int = 0
    """Tokens that were written to a cache."""
    moves: int = 0
    """How often a session changed its provider."""
    failed: int = 0
    """Attempts at the primary while it was down."""
    answers: Counter[str] = field(default_factory=Counter)
    """Answers by provider."""
    while_full: Counter[str] = field(default_factory=Counter)
    """The part of them while the plan's window was full."""
    warm_returns: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Week:
    """One week in one mode."""

    mode: str
    down: list[tuple[float, float]]
    sessions: Sessions = field(default_factory=Sessions)
    caches: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    cooldowns: dict[str, float] = field(default_factory=dict)

    def send(self, request: Request) -> None:
        """Send a request where the policy says."""
        figures = self.figures.setdefault(request.login, Figures())
        before = self.sessions.get(request.session)
        closed = {each.label: "cooling-down" for each in CHAIN if not self._is_open(each, request)}
        for provider in arrange(CHAIN, closed, decide=self._decide(request)):
            if not self._is_open(provider, request):
                continue
            if provider.primary and self._is_down(request):
                figures.failed += 1
                self._fail(request)
                continue
            self.failures[request.login] *= not provider.primary
            self._answer(request, provider, figures)
            figures.moves += before is not None and before.provider != provider.name
            return
        raise AssertionError("the fallback always answers")

    def _decide(self, request: Request) -> Decide | None:
        is_kept = self.mode == "cache" or (self.mode == "auto" and request.login != "plan")
        session = self.sessions.get(request.session)
        if not is_kept or session is None or session.provider == PRIMARY_NAME:
            return None

        def choose(available: Sequence[str], _: Mapping[str, str]) -> Decision | None:
            size = 4 * request.tokens
            decision = decide(session, available, request.at, size=size, compacted=b"", ttl=TTL)
            if isinstance(decision, Return) and decision.cause is Cause.WARM:
                returns = self.figures[request.login].warm_returns
                returns.setdefault(request.session, []).append(request.at)
                self.sessions.put(request.session, replace(session, returned=request.at))
            return decision

        return choose

    def _is_open(self, provider: Provider, request: Request) -> bool:
        return not provider.primary or self.cooldowns.get(request.login, 0.0) <= request.at

    def _is_down(self, request: Request) -> bool:
        is_full = request.login == "plan" and FULL[0] <= request.at % DAY < FULL[1]
        return is_full or any(begin <= request.at < end for begin, end in self.down)

    def _fail(self, request: Request) -> None:
        self.failures[request.login] += 1
        count = self.failures[request.login]
        seconds = 300 if count >= 10 else 60 if count >= 5 else 30 if count >= 3 else 0
        if request.login == "plan" and FULL[0] <= request.at % DAY < FULL[1]:
            seconds = int(FULL[1] - request.at % DAY)
        self.cooldowns[request.login] = request.at + seconds

    def _answer(self, request: Request, provider: Provider, figures: Figures) -> None:
        place = provider.name, request.session
        used, cached = self.caches.get(place, (float("-inf"), 0))
        is_plan = request.login == "plan" and provider.primary
        is_warm = request.at - used < (PLAN_TTL if is_plan else TTL)
        read = 0 if request.is_compacted or not is_warm else min(cached, request.tokens)
        self.caches[place] = request.at, request.tokens
        usage = Usage(200, 600, read, request.tokens - read)
        model = MODEL if provider.primary else BEDROCK_MODEL
        nano = cost(Work(usage, model), provider, TABLE)
        assert nano is not None
        figures.dollars += 0.0 if is_plan else nano / NANO
        figures.answers[provider.name] += 1
        figures.while_full[provider.name] += FULL[0] <= request.at % DAY < FULL[1]
        figures.reads += read
        figures.writes += request.tokens - read
        size = 4 * request.tokens
        session = self.sessions.get(request.session) or Session("", {})
        after = session.after(
            provider.name, request.at, size=size, tokens=request.tokens, compacted=b""
        )
        self.sessions.put(request.session, after)


def run(mode: str, seed: int = 1) -> dict[str, Figures]:
    """The figures of a week in a mode, by login."""
    week = Week(mode, outages(seed))
    both = [*requests("key", seed), *requests("plan", seed + 1000)]
    for request in sorted(both, key=lambda each: each.at):
        week.send(request)
    return week.figures


def table() -> Iterator[str]:
    """The figures of each mode, as lines."""
    yield "mode   login      paid     read   written  moves  failed"
    for mode in ("eager", "cache", "auto"):
        for login, each in sorted(run(mode).items()):
            tokens = f"{each.reads / 1e6:7.1f}M {each.writes / 1e6:8.2f}M"
            yield (
                f"{mode:6} {login:5} {each.dollars:8.2f} {tokens} {each.moves:6} {each.failed:7}"
            )


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in table())
