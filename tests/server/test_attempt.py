"""One attempt at its edges: statuses, kinds of bodies, limits, and what its result says."""

import asyncio
import sys
from email.utils import formatdate
from time import time
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import KeySource, Timeouts
from ccfallback.events.records import ProviderTimeout
from ccfallback.http1 import ConnectTimeout
from ccfallback.messages.tokens import Usage
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import Secret
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.client_credentials import RefusedLogins
from ccfallback.server.services import Services
from ccfallback.simulator import scripted
from tests.server.scripted_upstreams import ScriptedResponse
from tests.server.test_failover_driver import (
    EVENTS,
    FALLBACK,
    JSON,
    MESSAGE,
    PRIMARY,
    events,
    run,
    whole,
)

BY_PROGRAM = replace(FALLBACK, key=KeySource(command=(sys.executable, "-c", "print('key')")))
LOGIN = (b"authorization", b"Bearer sk-ant-oat-dummy")


def refusal(status: int, kind: str = "x_error", **more: Any) -> bytes:
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": "no"} | more})


def typed(media_type: bytes, *chunks: bytes) -> ScriptedResponse:
    return ScriptedResponse(chunks, 200, [(b"content-type", media_type)])


def test_a_result_says_what_has_come_so_far() -> None:
    usage, later = Usage(input_tokens=1), Usage(input_tokens=2)
    ok = Outcome(Fault.NONE, status=200, usage=usage)
    result = AttemptResult(PRIMARY, ok, 0.1, body=b"abc")
    assert (result.usage, result.written, result.is_whole) == (usage, 3, True)
    assert not AttemptResult(PRIMARY, Outcome(Fault.TORN), 0.1).is_whole
    stream: Any = SimpleNamespace(usage=later, written=9, ended=False)
    result = AttemptResult(PRIMARY, ok, 0.1, body=b"abc", stream=stream)
    assert (result.usage, result.written, result.is_whole) == (later, 9, False)
    stream.ended = True
    assert result.is_whole


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (199, "invalid status 199"),
        (200, ""),
        (299, ""),
        (300, "300 redirect, not followed"),
        (399, "399 redirect, not followed"),
        (400, "400"),
        (599, "599"),
        (600, "invalid status 600"),
    ],
)
def test_what_a_status_means(status: int, reason: str) -> None:
    (result,) = run(whole(MESSAGE if status < 300 else b"", status)).results
    assert result.outcome.reason == reason
    assert 0 <= result.seconds < 60


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("media_type", [b"text/plain", b"application/json", b"text/html"])
def test_the_type_decides_about_a_body_that_shows_nothing(media_type: bytes, stream: bool) -> None:
    (result,) = run(typed(media_type, b"hello"), stream=stream).results
    is_stream = stream and media_type == b"text/plain"
    assert (result.outcome.reason == "200 but empty answer") is is_stream


class Arrived(ScriptedResponse):
    """A response whose whole body is there with its head."""

    def take_whole(self) -> Any:
        return self.chunks[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [MESSAGE, b"".join(EVENTS), b"<html>"])
def test_a_body_that_has_arrived_is_read_like_any_other(body: bytes, stream: bool) -> None:
    (arrived,) = run(Arrived([body], 200, [JSON]), stream=stream).results
    (read,) = run(ScriptedResponse([body], 200, [JSON]), stream=stream).results
    assert arrived.outcome.but(usage=None) == read.outcome.but(usage=None)
    assert arrived.outcome.ok == (body != b"<html>")


def test_white_space_without_an_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.attempt.MAX_WHOLE", 100)
    (result,) = run(typed(b"application/json", *[b" " * 60] * 3, MESSAGE)).results
    assert result.outcome.reason == "200 but an answer without an end"


def test_the_body_of_an_error_is_waited_for_briefly() -> None:
    slow = replace(PRIMARY, timeouts=Timeouts(idle=0.02))
    (result,) = run(ScriptedResponse([b"{", None], 500, [JSON]), providers=(slow,)).results
    assert result.outcome.reason == "500"
    assert result.seconds < 4


def test_the_body_of_an_error_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.attempt.MAX_ERROR_BODY", 20)
    (result,) = run(ScriptedResponse([b"0123456789"] * 5, 500, [JSON])).results
    assert result.body == b"0123456789" * 2


@pytest.mark.parametrize("provider", [PRIMARY, FALLBACK])
def test_an_error_of_many_values_is_handed_on_and_not_decoded(provider: Any) -> None:
    body = b'{"error":{"message":"m","y":[' + b"{}," * 300_000 + b"{}]}}"
    (result,) = run(ScriptedResponse([body], 429, [JSON]), providers=(provider,)).results
    assert result.outcome.status == 429
    assert result.body == body
    assert result.outcome.message != "m"


@pytest.mark.parametrize(
    ("status", "provider", "says"),
    [
        (401, BY_PROGRAM, True),
        (403, BY_PROGRAM, True),
        (402, BY_PROGRAM, False),
        (401, PRIMARY, False),
        (401, FALLBACK, False),
    ],
)
def test_a_wrong_clock_is_told_where_a_credential_has_a_time(
    status: int, provider: Any, says: bool
) -> None:
    date = (b"date", formatdate(time() + 1200, usegmt=True).encode())
    responses = [ScriptedResponse([b""], status, [date]) for _ in range(2)]
    result = run(*responses, providers=(provider,)).results[0]
    assert ("clock" in result.outcome.reason) is says


def test_a_reset_comes_from_the_body_or_from_a_header() -> None:
    header = (b"retry-after", b"100")
    in_body = refusal(429, "rate_limit_error", resets_in_seconds=50)
    (by_body,) = run(ScriptedResponse([in_body], 429, [JSON])).results
    (by_header,) = run(ScriptedResponse([b""], 429, [JSON, header])).results
    (without,) = run(ScriptedResponse([b""], 429, [JSON])).results
    assert by_body.outcome.until == pytest.approx(time() + 50, abs=20)
    assert by_header.outcome.until == pytest.approx(time() + 100, abs=20)
    assert by_header.outcome.hint == "retry-after"
    assert by_body.outcome.hint not in ("", "retry-after")
    assert (without.outcome.until, without.outcome.hint) == (None, "")


def test_a_burst_is_waited_out_at_the_same_provider() -> None:
    burst = ScriptedResponse([b""], 429, [JSON, (b"retry-after", b"2")])
    first, second = run(burst, whole()).results
    assert first.outcome.pause == pytest.approx(2, abs=1)
    assert second.outcome.ok
    inside = ScriptedResponse(
        [refusal(200, "rate_limit_error")], 200, [JSON, (b"retry-after", b"2")]
    )
    first, second = run(inside, whole()).results
    assert first.outcome.pause == pytest.approx(2, abs=1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("spare", [0, -1])
def test_a_long_answer_is_decoded_in_a_thread(
    spare: int, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = asyncio.to_thread, []

    async def to_thread(function: Any, *args: Any) -> Any:
        calls.append(function)
        return await real(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    monkeypatch.setattr("ccfallback.server.attempt.MAX_ON_LOOP", len(MESSAGE) + spare)
    (result,) = run(whole(), stream=stream).results
    assert result.outcome.ok
    assert bool(calls) is (spare < 0)
    assert result.body


@pytest.mark.parametrize("stream", [False, True])
def test_a_renamed_tool_has_the_clients_name_in_the_answer(stream: bool) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "bad_name", "input": {}}
    answer = msgspec.json.encode(scripted.message([call], stop_reason="tool_use"))
    words = "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    refused = whole(
        refusal(400, "invalid_request_error").replace(b'"no"', b'"' + words.encode() + b'"'), 400
    )
    good = events(*scripted.events_of(answer)) if stream else whole(answer)
    tools = [{"name": "bad.name", "input_schema": {"type": "object"}}]
    ran = run(refused, good, providers=(FALLBACK,), stream=stream, tools=tools)
    assert len(ran.upstreams.requests) == 2
    assert ran.chosen is not None
    sent = b'"bad.name"' in ran.chosen.body.replace(b" ", b"")
    body = ran.upstreams.requests[1].content
    assert isinstance(body, bytes)
    assert b'"bad.name"' not in body
    assert sent


@pytest.mark.parametrize("as_stream", [False, True])
def test_the_signatures_of_an_answer_are_noted(as_stream: bool) -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    text = {"type": "text", "text": "yes"}
    answer = msgspec.json.encode(scripted.message([thinking, text]))
    given = events(*scripted.events_of(answer)) if as_stream else whole(answer)
    (result,) = run(given).results
    assert len(result.signatures) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", "200 overloaded_error"),
        ("strange_error", "200 strange_error"),
        ("secret_words_of_the_conversation", "200"),
    ],
)
def test_the_type_of_an_error_inside_an_answer(kind: str, reason: str, stream: bool) -> None:
    said = [{"role": "user", "content": "my secret_words_of_the_conversation here"}]
    (result,) = run(whole(refusal(200, kind)), stream=stream, messages=said).results
    assert result.outcome.reason == reason
    (refused,) = run(whole(refusal(500, kind), 500), stream=stream, messages=said).results
    assert refused.outcome.reason == reason.replace("200", "500")


def test_the_hint_of_an_answer_that_is_none_does_not_count() -> None:
    given = ScriptedResponse([b"[]"], 200, [JSON, (b"retry-after", b"1000")])
    (result,) = run(given).results
    assert (result.outcome.fault, result.outcome.until) == (Fault.UPSTREAM, None)


@pytest.mark.parametrize(
    ("provider", "status", "fault"),
    [
        (PRIMARY, 401, Fault.LOGIN),
        (PRIMARY, 403, Fault.ACCOUNT),
        (replace(PRIMARY, primary=False), 401, Fault.ACCOUNT),
        (replace(PRIMARY, key=KeySource(literal=Secret("key"))), 401, Fault.ACCOUNT),
    ],
)
def test_only_the_login_of_the_primary_may_be_renewed(
    provider: Any, status: int, fault: Fault
) -> None:
    ran = run(whole(b"", status), providers=(provider,), headers=(LOGIN,))
    assert ran.results[0].outcome.fault is fault
    (without,) = run(whole(b"", 401)).results
    assert without.outcome.fault is Fault.ACCOUNT


def test_a_request_from_before_its_login_was_refused_says_nothing_new() -> None:
    class Later(RefusedLogins):
        def refused_at(self, token: bytes, session: str = "") -> float | None:
            return 1e18

    def prepare(services: Services) -> None:
        services.logins = Later(services.breakers)

    (result,) = run(whole(b"", 401), headers=(LOGIN,), prepare=prepare).results
    assert result.outcome.fault is Fault.OLD_LOGIN


def test_a_connection_that_takes_too_long_is_a_timeout() -> None:
    slow = replace(PRIMARY, timeouts=Timeouts(connect=7.0))
    ran = run(ConnectTimeout(""), providers=(slow,))
    event = ran.event(ProviderTimeout)
    assert (event.timeout, event.seconds) == ("connect", 7.0)
    (other,) = run(httpx.ConnectError("x")).results
    assert other.timeout is None


def test_the_time_until_the_first_content_is_told_as_a_whole() -> None:
    slow = replace(PRIMARY, timeouts=Timeouts(first_byte=0.01, silence=0.03, idle=9))
    (result,) = run(events(EVENTS[0], None), providers=(slow,), stream=True).results
    assert result.timeout == "first_content"
    assert result.timeout_seconds == pytest.approx(0.04, abs=0.005)
    assert 0 <= result.seconds < 60


@pytest.mark.parametrize(
    "change",
    [{"auth_header": "x-goog-api-key"}, {"headers": {"X-Secret-Token": "supersecret"}}],
)
def test_no_secret_of_a_provider_is_in_a_reason(change: dict[str, Any]) -> None:
    provider = replace(FALLBACK, **change)
    (result,) = run(whole(refusal(500, "supersecret"), 500), providers=(provider,)).results
    assert "supersecret" not in result.outcome.reason
    plain = replace(FALLBACK, headers={"X-Title": "harmless_title"})
    (result,) = run(whole(refusal(500, "harmless_title"), 500), providers=(plain,)).results
    assert result.outcome.reason == "500 harmless_title"
