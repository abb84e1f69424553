"""What the log says of a request's attempts, and which provider is blamed."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.addresses import address
from ccfallback.config.model import Config, Failover, KeySource, Provider, Timeouts
from ccfallback.credentials import KeyUnavailable
from ccfallback.events.records import (
    SIDE_LEVEL,
    ProviderAttempt,
    ProviderFailure,
    ProviderSuccess,
    ProviderTimeout,
    RequestDebugCurl,
    SafetyValveTriggered,
    ServerError,
)
from ccfallback.http1 import ConnectionLost, ConnectTimeout
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.failover import Admission, Reason, Try, is_final
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import Secret
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.credentials import Keys
from ccfallback.server.failover_driver import (
    FailoverDriver,
    describe_missing,
    may_have_expired,
)
from ccfallback.server.live_config import FixedConfig, LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.services import Services
from ccfallback.state.store import MemoryStore
from tests.server.scripted_upstreams import ScriptedResponse, ScriptedUpstreams
from tests.server.test_attempt import refusal
from tests.server.test_failover_driver import FALLBACK, JSON, PRIMARY, OpenHealth, run, whole


def data(records: list[Record], kind: type[Any]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(each.data) for each in records if isinstance(each.data, kind)]


def test_each_attempt_is_logged_with_its_number_and_the_fault_before() -> None:
    busy = whole(refusal(529, "overloaded_error"), 529)
    ran = run(busy, whole(), providers=(PRIMARY, FALLBACK))
    first, second = data(ran.records, ProviderAttempt)
    assert (first["provider"], first["attempt"], first["reason"]) == ("one", 1, "first")
    assert first.get("after") is None
    assert (second["provider"], second["attempt"], second["reason"]) == ("two", 2, "failover")
    assert second["after"] == "overloaded"
    assert (second["host"], second["model"]) == ("two.test", "m")
    (failed,) = data(ran.records, ProviderFailure)
    assert (failed["attempt"], failed["status"], failed["fault"]) == (1, 529, "overloaded")
    assert failed["reason"] == "529 overloaded_error"
    assert failed["error"] == "no"
    assert failed.get("until") is None
    (answered,) = data(ran.records, ProviderSuccess)
    assert (answered["provider"], answered["attempt"], answered["status"]) == ("two", 2, 200)
    assert 0 <= answered["ms"] < 60_000
    assert "key" not in first
    messages = [each.message for each in ran.records]
    assert messages[0] == "trying one"
    assert messages[1].startswith("one failed after ")
    assert messages[1].endswith("s: 529 overloaded_error (no)")
    assert messages[2] == "trying two (failover)"
    assert messages[3].startswith("two answers after ")


def test_an_attempt_that_could_not_be_made_says_so() -> None:
    missing = Provider(name="one", base_url="https://one.test", key=KeySource(env="NOT_SET"))
    ran = run(whole(), providers=(missing, FALLBACK))
    (failed,) = [each for each in ran.records if isinstance(each.data, ProviderFailure)]
    assert re.match(r"one could not be tried after [\d.]+ m?s: no key: ", failed.message)
    assert ran.chosen is not None
    assert [result.sent for result in ran.results] == [False, True]


def test_a_hint_is_logged_with_its_end() -> None:
    throttled = ScriptedResponse([b""], 429, [JSON, (b"retry-after", b"1000")])
    ran = run(throttled, whole(), providers=(PRIMARY, FALLBACK))
    (failed,) = data(ran.records, ProviderFailure)
    assert failed["hint"] == "retry-after"
    assert failed["until"] > 1_000_000_000_000
    assert failed["error"] == ""


def test_a_timeout_is_logged_with_its_name() -> None:
    slow = replace(PRIMARY, timeouts=Timeouts(non_streaming=0.01))
    ran = run(None, whole(), providers=(slow, FALLBACK))
    (late,) = [each for each in ran.records if isinstance(each.data, ProviderTimeout)]
    assert late.message.startswith("one was too slow: non_streaming timeout after ")
    assert (late.data.timeout, late.data.fault) == ("non_streaming", "timeout")


def test_the_keys_of_a_provider_are_numbered() -> None:
    keys = replace(FALLBACK, key=KeySource(literals=(Secret("first-key"), Secret("second-key"))))
    ran = run(whole(b"", 401), whole(), providers=keys.accounts)
    assert [each["key"] for each in data(ran.records, ProviderAttempt)] == [1, 2]
    assert [each["key"] for each in data(ran.records, ProviderFailure)] == [1]
    assert ran.records[0].message == f"trying {keys.accounts[0].label}"
    sent = [dict(request.headers) for request in ran.upstreams.requests]
    assert [each[b"x-api-key"] for each in sent] == [b"first-key", b"second-key"]


def test_a_failed_request_can_be_repeated_by_hand_at_the_level_debug() -> None:
    ran = run(whole(b"", 500), whole(), providers=(FALLBACK, PRIMARY), level="debug")
    (record,) = [each for each in ran.records if isinstance(each.data, RequestDebugCurl)]
    assert record.message.startswith("to repeat the request to two: curl ")
    assert "supersecret" not in record.message
    quiet = run(whole(b"", 500), whole(), providers=(FALLBACK, PRIMARY))
    assert not data(quiet.records, RequestDebugCurl)


@pytest.mark.parametrize(
    ("outcome", "expired"),
    [
        (Outcome(Fault.ACCOUNT, status=401), True),
        (Outcome(Fault.ACCOUNT, status=403), True),
        (Outcome(Fault.ACCOUNT, status=402), False),
        (Outcome(Fault.UPSTREAM, status=400, code="ExpiredTokenException"), True),
        (Outcome(Fault.UPSTREAM, status=400, code="UnrecognizedClientException"), True),
        (Outcome(Fault.REQUEST, status=400, code="other"), False),
        (Outcome(Fault.NONE, status=200), False),
        (Outcome(Fault.NONE, status=401), False),
    ],
)
def test_which_refusals_another_credential_may_end(outcome: Outcome, expired: bool) -> None:
    assert may_have_expired(outcome) is expired


@pytest.mark.parametrize(
    ("provider", "what"),
    [
        (FALLBACK, "no key: why"),
        (replace(FALLBACK, key=KeySource()), "no key: why"),
        (replace(FALLBACK, key=KeySource(), auth="aws"), "no credential: why"),
    ],
)
def test_a_missing_credential_is_named(provider: Provider, what: str) -> None:
    assert describe_missing(provider, KeyUnavailable("why")) == what


def with_driver(
    story: Callable[[FailoverDriver, list[Record]], None], stream: bool = False, **more: Any
) -> None:
    """Call `story` with a driver that has made no attempt."""

    async def main() -> None:
        recorder, records = Recorder(None), list[Record]()
        recorder.listeners.append(records.append)
        breakers = Breakers(MemoryStore(), recorder)
        services = Services(
            live=LiveConfig(FixedConfig(Config()), recorder),
            breakers=breakers,
            recorder=recorder,
            upstreams=ScriptedUpstreams(),
            keys=Keys(),
        )
        raw = msgspec.json.encode({"model": "m", "messages": [], "stream": stream})
        context = Context("id", Config(), ClientHeaders(()), frozenset())
        story(FailoverDriver(services, context, OpenHealth(), Body.parse(raw), **more), records)
        breakers.close()

    asyncio.run(main())


def test_no_timeout_is_longer_than_the_limit_of_the_request() -> None:
    def story(driver: FailoverDriver, _records: list[Record]) -> None:
        given = replace(
            PRIMARY, timeouts=Timeouts(connect=2, first_byte=40, non_streaming=50, idle=60)
        )
        found = driver.timeouts(given)
        assert (found.connect, found.first_byte) == (2, 5)
        assert (found.non_streaming, found.idle) == (5, 5)

    with_driver(story, max_seconds=5.0)


@pytest.mark.parametrize(("seconds", "blamed"), [(59.0, False), (60.5, True)])
def test_a_client_that_leaves_late_blames_the_provider(seconds: float, blamed: bool) -> None:
    def story(driver: FailoverDriver, records: list[Record]) -> None:
        slow = replace(PRIMARY, timeouts=Timeouts(non_streaming=100.0))
        step = Try(slow, RequestDraft(driver.body, ()), Reason.FIRST)
        assert driver.current_provider is None
        assert driver.find_slow_provider() is None
        driver._current = step, monotonic() - seconds
        assert driver.current_provider is slow
        found = driver.find_slow_provider()
        assert (found is not None) is blamed
        if found is not None:
            assert found == (slow, Outcome(Fault.TIMEOUT, "no answer until the client left"))
            (late,) = data(records, ProviderTimeout)
            assert (late["provider"], late["attempt"], late["fault"]) == ("one", 1, "timeout")
            assert (late["timeout"], late["seconds"]) == ("non_streaming", 100.0)
            assert late["ms"] == pytest.approx(seconds * 1000, abs=900)
            assert late["reason"] == "no answer until the client left"
            assert records[-1].message == "one was too slow: the client has left"

    with_driver(story)


def test_a_client_of_a_stream_that_leaves_blames_no_provider() -> None:
    def story(driver: FailoverDriver, _records: list[Record]) -> None:
        step = Try(PRIMARY, RequestDraft(driver.body, ()), Reason.FIRST)
        driver._current = step, monotonic() - 10_000
        assert driver.find_slow_provider() is None

    with_driver(story, stream=True)


def test_attempts_without_a_network_are_counted_apart() -> None:
    def story(driver: FailoverDriver, _records: list[Record]) -> None:
        assert driver.count_uncounted(()) == {}
        for provider, fault in (
            (PRIMARY, Fault.UNREACHABLE),
            (FALLBACK, Fault.CONNECT_TIMEOUT),
            (FALLBACK, Fault.UPSTREAM),
        ):
            driver.results.append(AttemptResult(provider, Outcome(fault), 0.1))
        assert driver.count_uncounted(()) == {"one": 1, "two": 1}
        assert driver.count_uncounted({"two"}) == {"one": 1}
        assert driver.count_uncounted({"one", "two"}) == {}
        driver._unreached = ["one", "one"]
        assert driver.count_uncounted({"one", "two"}) == {"one": 2}
        assert [failure.outcome.fault for failure in driver.failures][-1] is Fault.UPSTREAM

    with_driver(story)


def test_the_last_candidate_is_known_by_what_was_tried() -> None:
    patient = Timeouts()

    def story(driver: FailoverDriver, _records: list[Record]) -> None:
        driver._candidates = (PRIMARY, FALLBACK)
        assert driver.timeouts(FALLBACK).first_byte == patient.first_byte
        driver.results.append(AttemptResult(PRIMARY, Outcome(Fault.UPSTREAM), 0.1))
        assert driver.timeouts(FALLBACK).first_byte == 280
        own = replace(FALLBACK, timeouts=Timeouts(first_byte=12))
        assert driver.timeouts(own).first_byte == 12

    with_driver(story, stream=True)


def test_a_torn_connection_is_logged_without_words_of_an_upstream() -> None:
    ran = run(ConnectionLost("words"), whole(), providers=(PRIMARY, FALLBACK))
    (failed,) = data(ran.records, ProviderFailure)
    assert (failed["fault"], failed["reason"]) == ("transport", "connection broken")
    assert failed["error"] == ""
    assert failed.get("status") is None


@dataclass
class Driven:
    """A driver after its run."""

    driver: FailoverDriver
    chosen: AttemptResult | None
    records: list[Record]
    upstreams: ScriptedUpstreams

    @property
    def reasons(self) -> list[str]:
        return [result.outcome.reason for result in self.driver.results]


def drive(
    *responses: ScriptedResponse | Exception | None,
    providers: tuple[Provider, ...] = (PRIMARY, FALLBACK),
    headers: tuple[tuple[bytes, bytes], ...] = (),
    members: dict[str, Any] | None = None,
    change: Callable[[Services], None] = lambda _services: None,
    health: OpenHealth | None = None,
    network_wait: float = 0.0,
    level: str = "info",
    **more: Any,
) -> Driven:
    """Run a driver against scripted responses; `change` prepares its services."""
    upstreams = ScriptedUpstreams(*responses)

    async def main() -> Driven:
        recorder, records = Recorder(None, level), list[Record]()
        recorder.listeners.append(records.append)
        breakers = Breakers(MemoryStore(), recorder)
        services = Services(
            live=LiveConfig(FixedConfig(Config()), recorder),
            breakers=breakers,
            recorder=recorder,
            upstreams=upstreams,
            keys=Keys(),
            pause=lambda _: asyncio.sleep(0),
        )
        change(services)
        raw = msgspec.json.encode({"model": "m", "messages": [], **(members or {})})
        context = Context("id", Config(), ClientHeaders(headers), frozenset())
        body = Body.parse(raw)
        driver = FailoverDriver(services, context, health or OpenHealth(), body, **more)
        final = partial(is_final, rules=Failover())
        chosen = await driver.run(providers, final, network_wait)
        await driver.close()
        breakers.close()
        return Driven(driver, chosen, records, upstreams)

    return asyncio.run(main())


def test_what_was_sent_is_counted() -> None:
    ran = drive(whole(b"", 500), whole())
    assert ran.driver.sent == 2
    assert ran.driver.current_provider is None
    assert not ran.driver.has_learned
    missing = replace(PRIMARY, key=KeySource(env="NOT_SET"))
    assert drive(whole(), providers=(missing, FALLBACK)).driver.sent == 1


def test_the_state_is_saved_before_the_next_attempt_only() -> None:
    calls: list[int] = []

    def count(services: Services) -> None:
        services.breakers.hurry = lambda: calls.append(1)  # type: ignore[method-assign]

    drive(whole(), change=count)
    assert not calls
    drive(whole(b"", 500), whole(), change=count)
    assert len(calls) == 1


def test_a_round_without_a_network_is_counted_apart() -> None:
    gone = [ConnectTimeout(""), ConnectTimeout("")]
    ran = drive(*gone, whole(), network_wait=5.0)
    assert ran.chosen is not None
    assert len(ran.driver.results) == ran.driver.sent == 1
    assert ran.driver.count_uncounted(()) == {"one": 1, "two": 1}
    reasons = [each["reason"] for each in data(ran.records, ProviderAttempt)]
    assert reasons == ["first", "failover", "network-back"]


def test_a_repair_that_worked_is_learned() -> None:
    words = "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens"
    refused = whole(refusal(400, "invalid_request_error", message=words), 400)
    ran = drive(refused, whole(), providers=(FALLBACK,), members={"max_tokens": 64000})
    assert ran.driver.has_learned
    assert b"8192" in bytes(ran.upstreams.requests[1].content)  # type: ignore[arg-type]


def test_only_the_primarys_answers_tell_a_quota() -> None:
    noted: list[str] = []

    def note(services: Services) -> None:
        services.quotas.note = (  # type: ignore[method-assign]
            lambda provider, *_: noted.append(provider.name)
        )

    drive(whole(b"", 500), whole(), change=note)
    assert noted == ["one"]


@pytest.mark.parametrize(
    ("provider", "more", "reason", "fault"),
    [
        (
            replace(FALLBACK, format="openai"),
            {"counts_tokens": True},
            "it counts no tokens",
            Fault.REQUEST,
        ),
        (FALLBACK, {"listens": True}, "its address is this proxy itself", Fault.ACCOUNT),
        (
            replace(FALLBACK, format="openai"),
            {
                "members": {
                    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
                    "tool_choice": {"type": "tool", "name": "web_search"},
                }
            },
            "its format can't express it: ",
            Fault.REQUEST,
        ),
    ],
    ids=["counting", "itself", "format"],
)
def test_why_an_attempt_cannot_be_made(
    provider: Provider, more: dict[str, Any], reason: str, fault: Fault
) -> None:
    def listen(services: Services) -> None:
        if more.get("listens"):
            services.listener = address(provider.base_url)

    given = {key: value for key, value in more.items() if key != "listens"}
    ran = drive(providers=(provider,), change=listen, level="debug", **given)
    (result,) = ran.driver.results
    assert result.outcome.reason.startswith(reason)
    assert result.outcome.fault is fault
    assert not result.sent
    assert not data(ran.records, ServerError)


def test_only_the_primary_gets_the_query() -> None:
    ran = drive(whole(b"", 500), whole(), query="beta=true")
    assert [request.url for request in ran.upstreams.requests] == [
        "https://one.test/v1/messages?beta=true",
        "https://two.test/v1/messages",
    ]


def test_a_count_of_tokens_is_logged_at_its_own_level() -> None:
    ran = drive(whole(b'{"input_tokens":3}'), counts_tokens=True, level="debug")
    assert {record.level for record in ran.records} == {SIDE_LEVEL}


def test_the_safety_valve_says_which_cooldown_it_ignores() -> None:
    class Cooling(OpenHealth):
        def admission(self, _provider: Provider) -> Admission:
            return Admission.COOLING

        def cooldown_until(self, _provider: Provider) -> float:
            return 2_000_000_000.0

    ran = drive(whole(), providers=(PRIMARY,), health=Cooling())
    (valve,) = data(ran.records, SafetyValveTriggered)
    assert (valve["provider"], valve["cooldownUntil"]) == ("one", 2_000_000_000_000)
    assert ran.records[0].message == (
        "no other provider is left: trying one although it is cooling down"
    )


def test_the_time_of_an_attempt_is_logged_in_milliseconds() -> None:
    ran = drive(whole())
    (answered,) = data(ran.records, ProviderSuccess)
    assert answered["ms"] == round(ran.driver.results[0].seconds * 1000, 1)


def test_a_log_that_fails_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(FailoverDriver, "_log_success", fail)
    ran = drive(whole())
    assert ran.chosen is not None
    assert len(data(ran.records, ServerError)) == 1


def test_a_crash_before_an_attempt_is_sent_is_none_of_the_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("ccfallback.server.failover_driver.adapt_body", fail)
    ran = drive(providers=(PRIMARY,))
    (result,) = ran.driver.results
    assert not result.sent
    assert 0 <= result.seconds < 60
    assert result.outcome.reason.startswith("internal error")
