"""Sends providers one small request each, as the server would, and reports the results.

A request goes through the server's own attempts, so the server would get the same result. It
leaves no trace: no breaker counts it, and no log holds it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ccfallback import __version__
from ccfallback.addresses import Address
from ccfallback.cli.doctor.diagnosis import Evidence, Trouble, remedy, trouble
from ccfallback.config.model import Config, Provider
from ccfallback.credentials import KeyUnavailable
from ccfallback.messages.body import Body, decode_json
from ccfallback.policy.failover import is_answer
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.breakers import Breakers
from ccfallback.server.check import OnlyCaps, most_informative
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.credentials import Keys
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.live_config import FixedConfig, LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.response import READ_ERRORS, UpstreamResponse
from ccfallback.server.services import Services
from ccfallback.server.upstream import UpstreamRequest, Upstreams
from ccfallback.state.store import MemoryStore
from ccfallback.wire import FORMATS
from ccfallback.wire.headers import HeaderList, text_headers
from ccfallback.words import label

ANSWER_SECONDS: Final = 30.0
"""How long a provider may take, if its own timeouts allow more."""

LIST_SECONDS: Final = 5.0
"""How long the list of a provider's models may take; it is only for a suggestion."""

EVIDENCE_BYTES: Final = 4000

NO_LOGIN: Final = "not tested: only Claude Code has the login for it"


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one request to a provider."""

    provider: str
    key: int
    """The number of the key, if the provider has several; else 0."""
    model: str
    mapped_to: str
    ok: bool
    tested: bool
    """False if only the client has the credentials; that is not a failure."""
    status: int | None
    seconds: float | None
    message: str
    hint: str
    trouble: Trouble

    @property
    def label(self) -> str:
        """The provider's name, and the number of the key that was tested."""
        return label(self.provider, self.key)


def probe(
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    *,
    environ: Mapping[str, str],
    listener: Address | None = None,
    on_result: Callable[[Probe], None] = lambda _: None,
) -> list[Probe]:
    """Send each provider a request for each model: all providers at once, its models in turn.

    A provider with several keys is in `questions` with each of them. `listener` is the address on
    which a server of this program listens; `on_result` is called with each result as it comes.
    """
    return asyncio.run(_probe(config, questions, environ, listener, on_result))


async def _probe(
    config: Config,
    questions: Sequence[tuple[Provider, str]],
    environ: Mapping[str, str],
    listener: Address | None,
    on_result: Callable[[Probe], None],
) -> list[Probe]:
    prober = _Prober(config, environ, listener)
    results: dict[int, Probe] = {}

    async def ask_in_turn(name: str) -> None:
        for index, (provider, model) in enumerate(questions):
            if provider.name == name:
                results[index] = await prober.ask(provider, model)
                on_result(results[index])

    try:
        async with asyncio.TaskGroup() as group:
            for name in dict.fromkeys(provider.name for provider, _ in questions):
                group.create_task(ask_in_turn(name))
    finally:
        await prober.aclose()
    return [results[index] for index in sorted(results)]


class _Prober:
    """Sends the requests; keeps connections and keys for the next one."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], listener: Address | None
    ) -> None:
        self._config = config
        self._login = find_login(environ, config.token_bytes)
        self._listener = listener
        self._upstreams = Upstreams(config.network)
        self._keys = Keys(self._upstreams.make_fetch, environ=environ)
        self._breakers = Breakers(MemoryStore(), Recorder(None))

    async def aclose(self) -> None:
        """Close every connection."""
        self._breakers.close()
        await self._upstreams.aclose()

    async def ask(self, provider: Provider, model: str) -> Probe:
        """Send one request to one provider."""
        if provider.primary and not provider.has_credential and not self._login:
            hint = "set ANTHROPIC_API_KEY for the test, or see what `ccfallback logs tail` says"
            return _make_probe(provider, model, message=NO_LOGIN, hint=hint)
        records: list[Record] = []
        services = self._services(records)
        headers = ClientHeaders(self._headers(provider))
        context = Context("probe", self._config, headers, self._config.token_bytes)
        driver = FailoverDriver(
            services, context, OnlyCaps(), _question(model), max_seconds=ANSWER_SECONDS
        )
        try:
            await driver.run([provider], is_answer)
            result = most_informative(driver.results)
        finally:
            await driver.close()
        evidence = collect_evidence(provider, model, result)
        if trouble(evidence) is Trouble.UNKNOWN_MODEL:
            models = await self._list_models(services, context, provider)
            evidence = collect_evidence(provider, model, result, models)
        errors = (getattr(record.data, "error", None) for record in reversed(records))
        error = next((text for text in errors if text), "")
        message = result.outcome.reason
        if error not in message:
            message += f": {error}"
        return _make_probe(provider, model, evidence, message=message, result=result)

    def _services(self, records: list[Record]) -> Services:
        recorder = Recorder(None)
        recorder.listeners.append(records.append)
        return Services(
            live=LiveConfig(FixedConfig(self._config), recorder),
            breakers=self._breakers,
            recorder=recorder,
            upstreams=self._upstreams,
            keys=self._keys,
            listener=self._listener,
        )

    def _headers(self, provider: Provider) -> HeaderList:
        headers = [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"user-agent", f"ccfallback/{__version__}".encode()),
            (b"anthropic-version", b"2023-06-01"),
        ]
        return headers + (self._login if provider.primary else [])

    async def _list_models(
        self, services: Services, context: Context, provider: Provider
    ) -> tuple[str, ...]:
        """The models that the provider lists; none if it has no list."""
        wire = FORMATS[provider.format]
        url = wire.models_url(provider)
        if url is None:
            return ()
        try:
            credential = await self._keys.get(provider)
            headers = wire.headers(
                context.headers, provider, credential, via=services.via, tokens=context.tokens
            )
            request = UpstreamRequest(url, headers, b"", LIST_SECONDS, method="GET")
            async with asyncio.timeout(LIST_SECONDS):
                response = await self._upstreams.send(request)
                answer = UpstreamResponse(response, context.watch)
                try:
                    body = await answer.read_all("list", LIST_SECONDS)
                finally:
                    await answer.aclose()
        except (KeyUnavailable, TimeoutError, *READ_ERRORS):
            return ()
        return _model_names(body)


def find_login(environ: Mapping[str, str], tokens: frozenset[bytes]) -> HeaderList:
    """The client's own credentials in the environment, unless they are access tokens."""
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
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "max_tokens": 1, "stream": True, "messages": messages}
    return Body.parse(msgspec.json.encode(body))


def collect_evidence(
    provider: Provider, model: str, result: AttemptResult, known_models: Sequence[str] = ()
) -> Evidence:
    """What a request to a provider has shown, for a diagnosis."""
    return Evidence(
        provider=provider,
        model=model,
        outcome=result.outcome,
        body=result.body[:EVIDENCE_BYTES],
        location=text_headers(result.headers).get("location", ""),
        sent=result.sent,
        known_models=known_models,
    )


def _make_probe(
    provider: Provider,
    model: str,
    evidence: Evidence | None = None,
    *,
    message: str,
    hint: str = "",
    result: AttemptResult | None = None,
) -> Probe:
    return Probe(
        provider=provider.name,
        key=provider.key.number,
        model=model,
        mapped_to=provider.model_for(model),
        ok=evidence is None or trouble(evidence) is Trouble.NONE,
        tested=result is not None,
        status=None if result is None else result.status,
        seconds=None if result is None or not result.sent else round(result.seconds, 3),
        message=message,
        hint=hint if evidence is None else remedy(evidence),
        trouble=Trouble.NONE if evidence is None else trouble(evidence),
    )


def _model_names(body: bytes) -> tuple[str, ...]:
    value = decode_json(body)
    listed: Iterable[Any] = value.get("data") or () if isinstance(value, dict) else ()
    names = (each.get("id") for each in listed if isinstance(each, dict))
    return tuple(name for name in names if isinstance(name, str) and name.isprintable())
