"""One request's attempts without sockets: what is sent, how it is judged, what is logged."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import log
from time import monotonic, time
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from ccfallback.config.model import Config, Failover, KeySource, Provider, Timeouts
from ccfallback.events.records import (
    Event,
    ProviderAttempt,
    ProviderFailure,
    ProviderTimeout,
    RequestReduced,
    ServerError,
)
from ccfallback.http1 import ConnectionLost
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.policy import latency
from ccfallback.policy.failover import Admission, is_final
from ccfallback.policy.latency import Latencies
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import Secret
from ccfallback.server import failover_driver
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_credentials import RefusedLogins
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.credentials import Keys
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.live_config import FixedConfig, LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.services import Services
from ccfallback.server.stream import EventStream
from ccfallback.simulator import scripted
from ccfallback.state.store import MemoryStore
from tests.server.scripted_upstreams import Chunk, ScriptedResponse, ScriptedUpstreams

EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("hello")))
MESSAGE = msgspec.json.encode(scripted.message("hello"))
JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")
CUT = ConnectionLost("")

E = TypeVar("E", bound=Event)

PRIMARY = Provider(name="one", base_url="https://one.test", primary=True)
FALLBACK = Provider(
    name="two", base_url="https://two.test", key=KeySource(literal=Secret("supersecret"))
)


class OpenHealth:
    """Closed breakers that record how each request was settled."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, Outcome | None]] = []
        self.usages: list[Usage | None] = []
        self.cooling: dict[str, float] = {}

    def is_capped(self, _provider: Provider) -> bool:
        return False

    def admission(self, _provider: Provider) -> Admission:
        return Admission.OPEN

    def cooldown_until(self, provider: Provider) -> float:
        return self.cooling.get(provider.name, 0.0)

    def begin(self, provider: Provider) -> None:
        """Reserve nothing."""

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        self.settled.append((provider.name, outcome))
        self.usages.append(usage)


@dataclass
class Ran:
    """What came of one request."""

    chosen: AttemptResult | None
    results: list[AttemptResult]
    records: list[Record]
    upstreams: ScriptedUpstreams
    health: OpenHealth = field(default_factory=OpenHealth)

    def event(self, kind: type[E]) -> E:
        """The only event of that kind."""
        (event,) = [record.data for record in self.records if isinstance(record.data, kind)]
        return event


def run(
    *responses: ScriptedResponse | Exception | None,
    providers: tuple[Provider, ...] = (PRIMARY,),
    stream: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    level: str = "info",
    prepare: Callable[[Services], None] = lambda _services: None,
    latencies: Latencies | None = None,
    cooling: dict[str, float] | None = None,
    on_driver: Callable[[FailoverDriver], None] = lambda _driver: None,
    **members: Any,
) -> Ran:
    """Run the attempts of one request against scripted responses."""
    upstreams, health = ScriptedUpstreams(*responses), OpenHealth()
    health.cooling = cooling or {}
    records: list[Record] = []
    given = {"model": "m", "messages": [], "stream": stream, **members}
    body = Body.parse(msgspec.json.encode(given))

    async def story() -> Ran:
        recorder = Recorder(None, level)
        recorder.listeners.append(records.append)
        breakers = Breakers(MemoryStore(), recorder)
        services = Services(
            live=LiveConfig(FixedConfig(Config()), recorder),
            breakers=breakers,
            recorder=recorder,
            upstreams=upstreams,
            keys=Keys(),
            latencies=latencies or Latencies(),
            pause=lambda _: asyncio.sleep(0),
        )
        prepare(services)
        context = Context("id", Config(), ClientHeaders(headers), frozenset())
        driver = FailoverDriver(services, context, health, body)
        upstreams.on_send = lambda: on_driver(driver)
        chosen = await driver.run(providers, partial(is_final, rules=Failover()))
        await driver.close()
        on_driver(driver)
        await breakers.flush(again=True)
        breakers.close()
        return Ran(chosen, driver.results, records, upstreams, health)

    return asyncio.run(story())


def whole(body: bytes = MESSAGE, status: int = 200) -> ScriptedResponse:
    return ScriptedResponse([body], status, [JSON])


def events(*chunks: Chunk) -> ScriptedResponse:
    return ScriptedResponse(chunks, 200, [SSE])


def test_a_whole_answer_is_passed_on_as_it_came() -> None:
    ran = run(whole())
    assert ran.chosen is not None
    assert ran.chosen.body == MESSAGE
    assert (ran.chosen.status, ran.chosen.media_type, ran.chosen.stream) == (200, None, None)
    (usage,) = ran.health.usages
    assert usage is not None
    assert usage.output_tokens == 7
    assert ran.health.settled == [("one", Outcome(Fault.NONE, status=200, usage=usage))]


def test_a_stream_stays_open_at_its_commit_point() -> None:
    response = events(EVENTS[0] + EVENTS[1], *EVENTS[2:])
    ran = run(response, stream=True)
    assert ran.chosen is not None
    assert ran.chosen.stream is not None
    assert ran.chosen.body == EVENTS[0] + EVENTS[1]
    assert not ran.chosen.outcome.complete
    assert response.reads == 1
    # What it costs is known at its end, for which `settle` is called again.
    assert ran.health.usages == [None]


def test_a_stream_becomes_a_message_and_a_message_a_stream() -> None:
    from_stream, from_message = run(events(*EVENTS)), run(whole(), stream=True)
    assert from_stream.chosen is not None
    assert from_message.chosen is not None
    assert msgspec.json.decode(from_stream.chosen.body)["content"][0]["text"] == "hello"
    assert from_stream.chosen.media_type == "application/json"
    assert from_message.chosen.body.startswith(b"event: message_start")
    assert from_message.chosen.media_type == "text/event-stream"


def fallback(**members: Any) -> Provider:
    """A fallback that needs no key."""
    return Provider(name="spare", base_url="http://127.0.0.1:1/v1", **members)


@pytest.mark.parametrize("region", ["us", "eu", ["us"], 3])
def test_a_request_bound_to_a_region_goes_only_where_that_is_promised(region: Any) -> None:
    ran = run(whole(), providers=(fallback(),), inference_geo=region)
    assert ran.chosen is None
    assert not ran.upstreams.requests
    assert "inference_geo" in ran.results[0].outcome.reason
    # It is the request's own demand, and nothing that a breaker counts.
    assert ran.results[0].outcome.fault is Fault.REQUEST


@pytest.mark.parametrize("region", ["us", "global", None])
@pytest.mark.parametrize(
    "provider",
    [
        PRIMARY,
        fallback(inference_geo=("eu", "us")),
        Provider(name="second-account", base_url="https://api.anthropic.com"),
    ],
    ids=lambda provider: provider.name,
)
def test_a_promised_region_is_kept(provider: Provider, region: Any) -> None:
    ran = run(whole(), providers=(provider,), inference_geo=region)
    assert ran.chosen is not None
    (request,) = ran.upstreams.requests
    assert isinstance(request.content, bytes)
    assert msgspec.json.decode(request.content)["inference_geo"] == region


def test_any_fallback_may_get_a_request_without_a_region() -> None:
    some: tuple[Any, ...] = ({}, {"inference_geo": "global"}, {"inference_geo": None})
    for members in some:
        assert run(whole(), providers=(fallback(),), **members).chosen is not None


def test_what_a_format_leaves_out_is_logged_for_debugging() -> None:
    other = fallback(format="openai", auth_header="Authorization")
    members: dict[str, Any] = {
        "mcp_servers": [{"url": "https://secret.example"}],
        "messages": [{"role": "user", "content": "hi"}],
    }
    ran = run(whole(), providers=(other,), level="debug", **members)
    assert ran.event(RequestReduced).omitted == ["mcp_servers"]
    assert "secret" not in str(ran.event(RequestReduced))
    quiet = run(whole(), providers=(other,), **members)
    assert not any(isinstance(each.data, RequestReduced) for each in quiet.records)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (whole(b"{}", 999), Outcome(Fault.UPSTREAM, "invalid status 999")),
        (whole(b"", 302), Outcome(Fault.UPSTREAM, "302 redirect, not followed", 302)),
        (whole(b"", 500), Outcome(Fault.UPSTREAM, "500", 500)),
        (
            whole(b"[]"),
            Outcome(
                Fault.UPSTREAM,
                "200 but the answer is not a message",
                200,
                message="the answer is not a message",
            ),
        ),
        (events(), Outcome(Fault.UPSTREAM, "200 but empty answer", 200)),
        (
            events(EVENTS[0]),
            Outcome(
                Fault.UPSTREAM,
                "200 but stream ended without a stop reason",
                200,
                message="stream ended without a stop reason",
            ),
        ),
        (events(EVENTS[0], CUT), Outcome(Fault.TRANSPORT, "200 but connection broken", 200)),
        (CUT, Outcome(Fault.TRANSPORT, "connection broken")),
        (
            ScriptedResponse([], 200, [(b"content-encoding", b"br")]),
            Outcome(Fault.UPSTREAM, "unknown content-encoding br"),
        ),
    ],
    ids=lambda value: value.reason if isinstance(value, Outcome) else "",
)
def test_a_response_without_an_answer_has_a_fault_and_a_reason(
    response: ScriptedResponse | Exception, outcome: Outcome, stream: bool
) -> None:
    if isinstance(response, ScriptedResponse):
        response = ScriptedResponse(response.chunks, response.status, response.headers)
    ran = run(response, stream=stream)
    assert ran.results[0].outcome.but(usage=None) == outcome
    if isinstance(response, ScriptedResponse):
        assert response.closed


def test_the_next_provider_is_tried_and_each_attempt_is_logged_once() -> None:
    failing, working = whole(b"", 500), whole()
    ran = run(failing, working, providers=(PRIMARY, FALLBACK))
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "two"
    assert [request.url for request in ran.upstreams.requests] == [
        "https://one.test/v1/messages",
        "https://two.test/v1/messages",
    ]
    assert [record.event for record in ran.records] == [
        *("provider.attempt", "provider.failure", "provider.attempt", "provider.success")
    ]
    assert failing.closed


def test_a_request_that_cannot_be_made_is_an_attempt_that_was_not_sent() -> None:
    missing = Provider(name="one", base_url="https://one.test", key=KeySource(env="NOT_SET"))
    ran = run(providers=(missing,))
    assert ran.upstreams.requests == []
    assert not ran.results[0].sent
    failure = ran.event(ProviderFailure)
    assert (failure.fault, failure.status) == ("account", None)
    assert failure.reason.startswith("no key: ")


@pytest.mark.parametrize(
    ("stream", "timeouts", "fired"),
    [
        (True, Timeouts(first_byte=0.01), "first_byte"),
        (False, Timeouts(non_streaming=0.01), "non_streaming"),
    ],
)
def test_a_silent_provider_costs_its_timeout(stream: bool, timeouts: Timeouts, fired: str) -> None:
    slow = Provider(name="one", base_url="https://one.test", timeouts=timeouts)
    ran = run(None, providers=(slow,), stream=stream)
    event = ran.event(ProviderTimeout)
    assert (event.timeout, event.fault) == (fired, "timeout")
    assert event.seconds == pytest.approx(0.01, abs=0.01)


def test_the_first_refusal_of_a_login_is_passed_to_the_client() -> None:
    login = (b"authorization", b"Bearer sk-ant-oat-dummy")
    ran = run(whole(b"", 401), headers=(login,))
    assert ran.chosen is not None
    assert ran.chosen.outcome.fault is Fault.LOGIN
    assert ran.health.settled == [("one", None)]


def test_a_refusal_that_the_client_has_not_seen_is_not_remembered() -> None:
    login, token = (b"authorization", b"Bearer sk-ant-oat-dummy"), b"sk-ant-oat-dummy"

    def forget(services: Services) -> None:
        services.logins.remember(token, "session")
        services.logins.forget(token, "session")

    for prepare in (lambda _services: None, forget):
        ran = run(whole(b"", 401), headers=(login,), prepare=prepare)
        assert ran.results[0].outcome.fault is Fault.LOGIN
    ran = run(
        whole(b"", 401), headers=(login,), prepare=lambda each: each.logins.remember(token, "")
    )
    assert ran.results[0].outcome.fault is Fault.ACCOUNT


@pytest.fixture
def breakers() -> Iterator[Breakers]:
    made = Breakers(MemoryStore(), Recorder(None))
    yield made
    made.close()


def test_a_refreshed_login_that_is_refused_too_goes_to_the_next_provider(
    breakers: Breakers,
) -> None:
    logins = RefusedLogins(breakers)
    logins.remember(b"sk-ant-oat-old", "session")
    assert logins.refused_at(b"sk-ant-oat-new", "session") is not None
    assert logins.refused_at(b"sk-ant-oat-new", "another") is None
    assert logins.refused_at(b"sk-ant-oat-new", "") is None


def test_a_login_that_was_accepted_since_may_be_refused_for_the_first_time_again(
    breakers: Breakers,
) -> None:
    logins, token = RefusedLogins(breakers), b"sk-ant-oat-dummy"
    assert not logins.any
    logins.remember(token, "session")
    assert logins.any
    logins.forget(token)
    logins.forget(None)
    assert logins.refused_at(token, "") is None
    assert logins.refused_at(b"sk-ant-oat-new", "session") is not None


def test_no_secret_is_in_a_reason_or_in_a_record() -> None:
    error = b'{"type":"error","error":{"type":"supersecret","message":"no key supersecret"}}'
    ran = run(whole(error, 500), providers=(FALLBACK,), level="debug")
    assert ran.results[0].outcome.reason == "500 ***"
    assert [record.event for record in ran.records][-1] == "request.debug_curl"
    assert "supersecret" not in str(ran.records)


class Unforeseen(Exception):
    """An exception that no code expects; its text is a secret."""


def crash(*_: object, **__: object) -> None:
    raise Unforeseen("supersecret")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        "server.failover_driver.adapt_body",
        "server.failover_driver.FailoverDriver._log_attempt",
        "server.upstream.Upstreams.send",
        "server.attempt.UpstreamResponse",
        "wire.anthropic.MessagesFormat.whole",
        "wire.anthropic.AnthropicStream.feed",
    ],
)
def test_an_unforeseen_exception_is_a_failure_of_its_attempt(
    where: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    module, _, name = f"ccfallback.{where}".rpartition(".")
    if module.rpartition(".")[2][0].isupper():
        module, _, kind = module.rpartition(".")
        owner: Any = getattr(sys.modules[module], kind)
    else:
        owner = sys.modules[module]
    owner = ScriptedUpstreams if name == "send" else owner
    real = getattr(owner, name)

    def crash_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return crash() if len(calls) == 1 else real(*args, **kwargs)

    monkeypatch.setattr(owner, name, crash_once)
    answers = [events(*EVENTS) if stream else whole() for _ in range(2)]
    ran = run(*answers, providers=(PRIMARY, FALLBACK), stream=stream)
    if not calls:
        pytest.skip("not on the way of such a request")
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "two"
    assert ran.health.settled[0] == ("one", Outcome(Fault.UPSTREAM, "internal error: Unforeseen"))
    assert [record.event for record in ran.records].count("server.error") == 1
    assert "supersecret" not in str(ran.records)
    assert all(answer.closed for answer in answers if answer.reads)


@pytest.mark.parametrize("name", ["_log_success", "_log_failure"])
def test_a_log_that_fails_changes_no_outcome(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailoverDriver, name, crash)
    ran = run(whole(b"", 500), whole(), providers=(PRIMARY, FALLBACK))
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "two"
    assert ran.results[0].outcome == Outcome(Fault.UPSTREAM, "500", 500)


def test_a_rectifier_that_fails_repairs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.repairs.find_repairs", crash)
    ran = run(whole(b"", 400), whole(), providers=(FALLBACK, PRIMARY))
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "one"
    assert ran.event(ServerError).name == "server.error"


TYPES = ["text/event-stream", "application/json", "text/plain", "text/html", ""]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [b"", b"\n\n \r\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("body", [b"".join(EVENTS), MESSAGE], ids=["events", "message"])
@pytest.mark.parametrize("media_type", TYPES)
def test_a_body_counts_as_what_it_is_whatever_its_type_says(
    media_type: str, body: bytes, before: bytes, stream: bool
) -> None:
    headers = [(b"content-type", media_type.encode())] if media_type else []
    ran = run(
        ScriptedResponse([before[:1], before[1:] + body[:3], body[3:]][not before :], 200, headers),
        stream=stream,
    )
    assert ran.chosen is not None
    if stream:
        assert ran.chosen.body.lstrip(before).startswith(b"event: message_start")
        media_types = (ran.chosen.media_type, media_type)
        assert "text/event-stream" in media_types
    else:
        assert msgspec.json.decode(ran.chosen.body)["content"][0]["text"] == "hello"
        assert ran.chosen.media_type == "application/json" or media_type == "application/json"


LIMITED = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.parametrize("before", [b"", b": alive\n\n", EVENTS[0], b": alive\r\n\r\n"])
def test_an_error_as_json_keeps_its_meaning_in_and_after_a_stream(
    before: bytes, media_type: str, stream: bool
) -> None:
    headers = [(b"content-type", media_type.encode())] if media_type else []
    ran = run(ScriptedResponse([before + LIMITED], 200, headers), stream=stream)
    assert ran.results[0].outcome.fault is Fault.THROTTLED
    coded = run(
        ScriptedResponse([before + b'{"error":{"code":429,"message":"no"}}\n'], 200, headers),
        stream=stream,
    )
    assert coded.results[0].outcome.fault is Fault.THROTTLED


def test_a_message_behind_comments_is_an_answer() -> None:
    ran = run(ScriptedResponse([b": alive\n\n", b": alive\n\n" + MESSAGE], 200, [SSE]))
    assert ran.chosen is not None
    assert ran.chosen.body == MESSAGE


@pytest.mark.parametrize("sign", [b": alive\n\n", b"\n", b" "])
def test_any_byte_of_a_body_ends_the_wait_for_the_first_byte(sign: bytes) -> None:
    limits = Timeouts(first_byte=0.01, silence=0.01, idle=9)
    patient = Provider(name="one", base_url="https://one.test", timeouts=limits)
    ran = run(events(sign, None), providers=(patient,), stream=True)
    assert ran.event(ProviderTimeout).timeout == "first_content"


def known(*providers: Provider, answers: int = 50) -> Latencies:
    """What is known of providers that have always answered at once."""
    latencies = Latencies()
    for provider in providers:
        for _ in range(answers):
            latencies.find(provider, "m").note_answer(0.01, 100, time())
    return latencies


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that has always answered at once has to go on so."""
    monkeypatch.setattr(latency, "SHORTEST", 0.05)


@pytest.mark.usefixtures("hurried")
def test_a_provider_that_is_usually_quick_is_given_up_early() -> None:
    latencies = known(PRIMARY, FALLBACK)
    providers = (PRIMARY, FALLBACK)
    ran = run(None, events(*EVENTS), providers=providers, stream=True, latencies=latencies)
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "two"
    event = ran.event(ProviderTimeout)
    assert event.timeout == "first_byte"
    assert event.seconds is not None
    assert event.seconds < 1
    assert event.why == (
        "the shortest limit, for its p99 of 0.1 s over 50 answers"
        if event.seconds == 0.05
        else "4 \N{MULTIPLICATION SIGN} its p99 of 0.1 s over 50 answers"
    )
    learned = latencies.find(PRIMARY, "m").learned(time())
    assert learned is not None
    assert learned.first_byte > event.seconds


@pytest.mark.usefixtures("hurried")
def test_a_turn_is_not_lost_because_a_provider_was_given_up_early() -> None:
    latencies, failure = known(PRIMARY), ScriptedResponse([b"{}"], 500, [JSON])
    ran = run(
        None,
        failure,
        events(*EVENTS),
        providers=(PRIMARY, FALLBACK),
        stream=True,
        latencies=latencies,
    )
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "one"
    reasons = [each.data.reason for each in ran.records if isinstance(each.data, ProviderAttempt)]
    assert reasons == ["first", "failover", "more-time"]


LOCAL = Provider(name="one", base_url="http://127.0.0.1:9", primary=True)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("provider", "others", "stream"),
    [
        (PRIMARY, (), True),
        (PRIMARY, (FALLBACK,), False),
        (LOCAL, (FALLBACK,), True),
        (replace(PRIMARY, timeouts=Timeouts(adaptive=False)), (FALLBACK,), True),
    ],
    ids=["the last candidate", "a whole answer", "a local address", "switched off"],
)
def test_these_attempts_keep_all_of_the_configured_time(
    provider: Provider, others: tuple[Provider, ...], stream: bool
) -> None:
    # A first byte that comes late.
    response = LateResponse(EVENTS if stream else [MESSAGE], 200, [SSE if stream else JSON])
    ran = run(response, providers=(provider, *others), stream=stream, latencies=known(provider))
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "one"


@pytest.mark.usefixtures("hurried")
def test_a_provider_is_not_hurried_while_all_others_cool_down() -> None:
    response = LateResponse(EVENTS, 200, [SSE])
    chain, latencies = (PRIMARY, FALLBACK), known(PRIMARY)
    cooling = {"two": time() + 60}
    ran = run(response, providers=chain, stream=True, latencies=latencies, cooling=cooling)
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "one"


class LateResponse(ScriptedResponse):
    """A response whose first byte comes later than the learned limit."""

    async def read(self) -> bytes:
        """Return the next chunk."""
        if not self.reads:
            await asyncio.sleep(0.3)
        return await super().read()


@pytest.mark.usefixtures("hurried")
def test_an_answer_teaches_how_long_its_first_byte_took() -> None:
    latencies = Latencies()
    run(events(*EVENTS), stream=True, latencies=latencies)
    run(whole(), latencies=latencies)
    run(ScriptedResponse([b"{}"], 500, [JSON]), stream=True, latencies=latencies)
    (digest,) = latencies.digests.values()
    assert sum(buckets.total() for buckets in digest.times.values()) == 1


@pytest.mark.parametrize("response", [None, whole(), events()])
def test_a_provider_gets_a_share_of_the_time_of_a_client_that_wants_a_whole_answer(
    response: ScriptedResponse | None,
) -> None:
    if response is not None:
        # It begins, and then says nothing.
        response = ScriptedResponse([b" ", None], 200, response.headers)
    timeout = ((b"x-stainless-timeout", b"0.05"),)
    ran = run(response, whole(), providers=(PRIMARY, FALLBACK), headers=timeout)
    event = ran.event(ProviderTimeout)
    assert event.timeout == "non_streaming"
    assert event.seconds == pytest.approx(0.03, abs=0.03)
    assert ran.chosen is not None
    assert ran.chosen.provider.name == "two"


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"nan", b"inf", b"0", b"9000"])
def test_a_client_timeout_that_limits_nothing(value: bytes) -> None:
    ran = run(whole(), headers=((b"x-stainless-timeout", value),))
    assert ran.chosen is not None


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ((), False),
        (((b"user-agent", b"Anthropic/JS 1.0"),), False),
        (((b"user-agent", b"claude-cli/2.1.330 (external, cli)"),), True),
        (((b"x-app", b"cli"),), True),
        (((b"x-app", b"web"),), False),
    ],
)
def test_only_claude_codes_stops_are_held_back(
    headers: tuple[tuple[bytes, bytes], ...], held: bool
) -> None:
    stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    begun = EVENTS[0] + EVENTS[1] + stop
    ran = run(events(begun, *EVENTS[2:]), stream=True, headers=headers)
    assert ran.chosen is not None
    assert ran.chosen.body == (begun.replace(stop, b"") if held else begun)


@pytest.mark.parametrize(
    ("url", "others", "seconds"),
    [
        ("https://a.test", 1, 30.0),
        ("https://a.test", 0, 280.0),
        ("http://127.0.0.1:1", 1, 280.0),
        ("http://10.0.0.1", 1, 280.0),
    ],
)
def test_a_first_byte_is_awaited_longer_where_that_costs_nothing(
    url: str, others: int, seconds: float
) -> None:
    own = Provider(name="a", base_url=url)
    more = tuple(Provider(name=f"b{n}", base_url="https://b.test") for n in range(others))
    config = Config(primary=replace(Config().primary, disabled=True), providers=(own, *more))
    context = Context("x", config, ClientHeaders([]), frozenset())
    body = Body.parse(b'{"stream":true}')
    driver = FailoverDriver(cast(Services, None), context, OpenHealth(), body)
    driver._candidates = (own, *more)
    assert driver.timeouts(own).first_byte == seconds
    hasty = replace(own, timeouts=Timeouts(first_byte=5.0))
    assert driver.timeouts(hasty).first_byte == 5.0


def test_the_current_provider_is_that_of_the_attempt_under_way() -> None:
    seen: list[Provider | None] = []
    run(
        CUT, whole(), providers=(PRIMARY, FALLBACK),
        on_driver=lambda driver: seen.append(driver.current_provider),
    )  # fmt: skip
    assert seen == [PRIMARY, FALLBACK, None]


def test_an_answer_teaches_how_long_it_took_for_how_long_a_body() -> None:
    latencies = Latencies()
    ran = run(events(*EVENTS), stream=True, latencies=latencies)
    digest = latencies.find(PRIMARY, "m")
    assert digest.mean_bytes == len(ran.upstreams.requests[0].content)  # type: ignore[arg-type]
    (buckets,) = digest.times.values()
    assert buckets.total() == 1
    assert max(buckets) < 0


def test_a_stream_teaches_its_rhythm_and_a_whole_answer_none() -> None:
    latencies = Latencies()

    def note(driver: FailoverDriver) -> None:
        stream = cast(EventStream, SimpleNamespace(gap=12.0))
        driver.note_rhythm(stream)
        driver.note_rhythm(cast(EventStream, SimpleNamespace(gap=None)))

    run(whole(), latencies=latencies, on_driver=note)
    assert not latencies.find(PRIMARY, "m").gaps
    run(events(*EVENTS), stream=True, latencies=latencies, on_driver=note)
    (buckets,) = latencies.find(PRIMARY, "m").gaps.values()
    assert list(buckets) == [int(log(12.0) * 20)]


def test_a_request_for_nothing_but_tools_that_a_platform_lacks_is_not_sent_there() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    cloud = replace(
        FALLBACK, format="bedrock", base_url="https://bedrock.test", platform_name="bedrock"
    )
    ran = run(whole(), providers=(cloud, FALLBACK), tools=[search])
    first = ran.results[0]
    assert not first.sent
    assert first.outcome.fault is Fault.REQUEST
    assert first.outcome.reason == "it runs none of the tools that are asked for"


def test_a_client_that_has_waited_long_in_vain_blames_the_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []

    def leave(driver: FailoverDriver) -> None:
        if driver.current_provider is None:
            return
        assert driver.find_slow_provider() is None
        began = monotonic()
        with monkeypatch.context() as later:
            later.setattr(failover_driver, "monotonic", lambda: began + 1000.0)
            found.append(driver.find_slow_provider())

    ran = run(whole(), on_driver=leave)
    ((provider, outcome),) = found
    assert (provider, outcome.fault) == (PRIMARY, Fault.TIMEOUT)
    (said,) = [each.data for each in ran.records if isinstance(each.data, ProviderTimeout)]
    assert (said.attempt, said.key, said.seconds) == (1, UNSET, 600.0)
    assert said.ms == pytest.approx(1_000_000, abs=500)


def test_the_end_of_an_attempt_is_told_in_milliseconds() -> None:
    told: list[dict[str, Any]] = []

    def end(driver: FailoverDriver) -> None:
        told.append(driver._end_data(AttemptResult(PRIMARY, Outcome(Fault.NONE), 2.5)))

    run(whole(), on_driver=end)
    assert told[-1] == {
        "provider": "one", "key": UNSET, "attempt": 1, "status": None, "ms": 2500.0,
        "prevented": UNSET,
    }  # fmt: skip


def test_a_failure_without_words_of_the_upstream_is_told_in_one_sentence() -> None:
    refused = ScriptedResponse([b""], 500, [])
    ran = run(refused, whole(), providers=(PRIMARY, FALLBACK))
    (said,) = [each.message for each in ran.records if isinstance(each.data, ProviderFailure)]
    assert re.fullmatch(r"one failed after [\d.]+ m?s: 500", said)


def test_the_words_of_a_refusal_are_kept_for_its_repair() -> None:
    kept: list[str] = []
    error = {"error": {"type": "invalid_request_error", "message": "no such field"}}
    run(
        whole(msgspec.json.encode(error), 400),
        on_driver=lambda driver: kept.append(driver._repairs.refusal_text),
    )
    assert kept[-1] == "no such field"


def test_an_answer_at_the_first_try_leaves_nothing_uncounted() -> None:
    counts: list[Any] = []
    run(whole(), on_driver=lambda driver: counts.append(driver.count_uncounted(())))
    assert counts[-1] == {}


def test_a_timeout_of_the_configuration_is_told_without_a_reason() -> None:
    quick = replace(PRIMARY, timeouts=Timeouts(non_streaming=0.05))
    ran = run(None, whole(), providers=(quick, FALLBACK))
    (said,) = [each for each in ran.records if isinstance(each.data, ProviderTimeout)]
    assert said.data.why is UNSET
    pattern = r"one was too slow: non_streaming timeout after [\d.]+ m?s"
    assert re.fullmatch(pattern, said.message), said.message
