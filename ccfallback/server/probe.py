"""Ask providers one small question each, the way the server would, and say what came of it.

A question goes through the server's own conversation, so that what holds here holds there. It
leaves no trace: no breaker counts it, and no log has it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback import __version__
from ccfallback.addresses import Address
from ccfallback.config.model import Config, Provider
from ccfallback.config.secrets import KeyUnavailable
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.policy.failover import Admission, only_answers
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.server.attempts import AttemptResult, Attempts
from ccfallback.server.breakers import Breakers
from ccfallback.server.context import Context, Keys, RefusedLogins, Services
from ccfallback.server.diagnosis import Evidence, Trouble, remedy, trouble
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.stream import READ_ERRORS, UpstreamResponse
from ccfallback.server.upstream import UpstreamRequest, Upstreams
from ccfallback.state.store import MemoryStore
from ccfallback.wire import FORMATS
from ccfallback.wire.headers import text_headers

PATIENCE: Final = 30.0
"""Seconds that a provider may take, where its own timeouts allow it more."""

LIST_PATIENCE: Final = 5.0
"""Seconds for the list of a provider's models, which is only for a suggestion."""

EVIDENCE_BYTES: Final = 4000

NO_LOGIN: Final = "not tested: only Claude Code has the login for it"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a question to a provider came to."""

    provider: str
    model: str
    mapped_to: str
    ok: bool
    tested: bool
    """False where nobody here has the key; that is no failure."""
    status: int | None
    seconds: float | None
    message: str
    hint: str
    trouble: Trouble


class Impartial:
    """Breakers that let everybody through and count nothing; a `core.failover.Health`."""

    def admission(self, _provider: Provider) -> Admission:
        """Whoever is to be tested is asked."""
        return Admission.OPEN

    def cooldown_until(self, _provider: Provider) -> float:
        """No cooldown stands in the way."""
        return 0.0

    def begin(self, provider: Provider) -> None:
        """Takes no place."""

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Counts nothing."""


def probe(
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    *,
    environ: Mapping[str, str],
    listener: Address | None = None,
    told: Callable[[Probe], None] = lambda _: None,
) -> list[Probe]:
    """Ask each provider for each model, all providers at once, and each one thing at a time.

    `listener` is where a server of ours listens; `told` hears of each result as it comes.
    """
    return asyncio.run(_probe(config, questions, environ, listener, told))


async def _probe(
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    environ: Mapping[str, str],
    listener: Address | None,
    told: Callable[[Probe], None],
) -> list[Probe]:
    prober = _Prober(config, environ, listener)
    found: dict[int, Probe] = {}

    async def ask_in_turn(provider: Provider) -> None:
        for place, (asked, model) in enumerate(questions):
            if asked is provider:
                found[place] = await prober.ask(provider, model)
                told(found[place])

    try:
        async with asyncio.TaskGroup() as group:
            for provider in {asked.name: asked for asked, _ in questions}.values():
                group.create_task(ask_in_turn(provider))
    finally:
        await prober.aclose()
    return [found[place] for place in sorted(found)]


class _Prober:
    """Asks; keeps connections and keys for the next question."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], listener: Address | None
    ) -> None:
        self._config = config
        self._tokens = frozenset(each.token.reveal().encode("latin-1") for each in config.tokens)
        self._login = _login(environ, self._tokens)
        self._listener = listener
        self._keys = Keys()
        self._upstreams = Upstreams(config.proxy)
        self._breakers = Breakers(MemoryStore(), Recorder(None))

    async def aclose(self) -> None:
        """Close every connection."""
        self._breakers.close()
        await self._upstreams.aclose()

    async def ask(self, provider: Provider, model: str) -> Probe:
        """One question to one provider."""
        if provider.primary and not provider.key and not self._login:
            hint = "set ANTHROPIC_API_KEY for the test, or see what `ccfallback logs tail` says"
            return _result(provider, model, message=NO_LOGIN, hint=hint)
        said: list[Record] = []
        services = self._services(said)
        context = Context("probe", self._config, self._headers(provider), self._tokens)
        talk = Attempts(services, context, Impartial(), wait=PATIENCE)
        try:
            await talk.run(_question(model), [provider], only_answers, 0.0)
            reply = _telling(talk.results)
        finally:
            await talk.close()
        evidence = _evidence(provider, model, reply)
        if trouble(evidence) is Trouble.UNKNOWN_MODEL:
            known = await self._models(services, context, provider)
            evidence = _evidence(provider, model, reply, known)
        words = next((each for r in reversed(said) if (each := getattr(r.data, "error", None))), "")
        message = reply.outcome.reason + (f": {words}" if words else "")
        return _result(provider, model, evidence, message=message, hint="", reply=reply)

    def _services(self, said: list[Record]) -> Services:
        recorder = Recorder(None)
        recorder.listeners.append(said.append)
        return Services(
            live=LiveConfig(_Given(self._config), recorder),
            breakers=self._breakers,
            recorder=recorder,
            upstreams=self._upstreams,
            keys=self._keys,
            logins=RefusedLogins(),
            listener=self._listener,
        )

    def _headers(self, provider: Provider) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"user-agent", f"ccfallback/{__version__}".encode()),
            (b"anthropic-version", b"2023-06-01"),
        ]
        return headers + (self._login if provider.primary else [])

    async def _models(
        self, services: Services, context: Context, provider: Provider
    ) -> tuple[str, ...]:
        """What the provider says it serves; nothing where it does not say."""
        wire = FORMATS[provider.format]
        url = wire.models_url(provider)
        if url is None:
            return ()
        try:
            key = await self._keys.get(provider)
            headers = wire.headers(
                context.headers,
                provider,
                None if key is None else key.reveal(),
                via=services.via,
                tokens=context.tokens,
            )
            request = UpstreamRequest(url, headers, b"", LIST_PATIENCE, method="GET")
            async with asyncio.timeout(LIST_PATIENCE):
                response = await self._upstreams.transport(url).send(request)
                answer = UpstreamResponse(response, context.watch)
                try:
                    body = await answer.read_all("list", LIST_PATIENCE)
                finally:
                    await answer.aclose()
        except (KeyUnavailable, TimeoutError, *READ_ERRORS):
            return ()
        return _names_in(body)


class _Given:
    """A configuration that never changes; a `live_config.ConfigStore`."""

    path = Path()

    def __init__(self, config: Config) -> None:
        self._config = config

    def is_still(self, version: object) -> bool:
        """It never changes."""
        return True

    def stamp(self) -> None:
        """There is only one version."""

    def load(self) -> Config:
        """As it was given."""
        return self._config


def _login(environ: Mapping[str, str], tokens: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The client's own credentials, as the environment has them; access tokens are none."""
    found = []
    for variable, header, scheme in (
        ("ANTHROPIC_API_KEY", b"x-api-key", b""),
        ("ANTHROPIC_AUTH_TOKEN", b"authorization", b"Bearer "),
    ):
        value = environ.get(variable, "").strip().encode("utf-8", "replace")
        if value and value not in tokens:
            found.append((header, scheme + value))
    return found


def _question(model: str) -> Body:
    asked = {
        "model": model,
        "max_tokens": 1,
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    return Body.parse(msgspec.json.encode(asked))


def _telling(replies: Sequence[AttemptResult]) -> AttemptResult:
    """The reply that tells most: a repair that is refused too leaves the first refusal standing."""
    last = replies[-1]
    if last.outcome.fault is not Fault.REQUEST:
        return last
    return next(reply for reply in replies if reply.outcome.fault is Fault.REQUEST)


def _evidence(
    provider: Provider, model: str, reply: AttemptResult, known_models: Sequence[str] = ()
) -> Evidence:
    return Evidence(
        provider=provider,
        model=model,
        outcome=reply.outcome,
        body=reply.body[:EVIDENCE_BYTES],
        location=text_headers(reply.headers).get("location", ""),
        sent=reply.sent,
        known_models=known_models,
    )


def _result(
    provider: Provider,
    model: str,
    evidence: Evidence | None = None,
    *,
    message: str,
    hint: str,
    reply: AttemptResult | None = None,
) -> Probe:
    return Probe(
        provider=provider.name,
        model=model,
        mapped_to=provider.model_for(model),
        ok=reply is None or reply.outcome.ok,
        tested=reply is not None,
        status=None if reply is None else reply.status,
        seconds=None if reply is None or not reply.sent else round(reply.seconds, 3),
        message=message,
        hint=hint if evidence is None else remedy(evidence),
        trouble=Trouble.NONE if evidence is None else trouble(evidence),
    )


def _names_in(body: bytes) -> tuple[str, ...]:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    listed: Iterable[Any] = value.get("data") or () if isinstance(value, dict) else ()
    names = (each.get("id") for each in listed if isinstance(each, dict))
    return tuple(name for name in names if isinstance(name, str) and name.isprintable())
