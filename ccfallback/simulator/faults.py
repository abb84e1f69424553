"""Everything that a provider can do wrong, as data: an id, a line about it, and how to do it.

`drill` walks a chain through them, and the tests of the chain do. A fault lasts: whoever has it
has it for every request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from ccfallback.simulator import fault_scripts as misbehaving
from ccfallback.simulator import scripted
from ccfallback.simulator.addresses import Place
from ccfallback.simulator.fault_scripts import in_a_moment, raw, say
from ccfallback.simulator.scripted import EVENTS, Connection, Received, Script
from ccfallback.simulator.scripted_format import (
    ANTHROPIC,
    CONTENT,
    DIALECTS,
    OPENAI,
    THINKING,
    Block,
    Dialect,
    Part,
    media_type,
    streams,
)

Makes = Callable[[Dialect], Script]


class Ends(Enum):
    """What becomes of a fault, seen from a client that can go nowhere else."""

    PASSES = "passes"
    """It may be over by the next try."""
    LASTS = "lasts"
    """A person has to act, or hours have to pass: the client is right to give up."""
    WELL = "well"
    """It is strange, and a good answer all the same."""


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """One way to fail."""

    id: str
    about: str
    make: Makes = Dialect.works
    place: Place = Place.THERE
    ends: Ends = Ends.PASSES
    login: bool = False
    """It is about a login, so the client has one instead of a key."""
    fallback_only: bool = False
    """From the primary it is no fault, but an answer."""
    waits: bool = False
    """It may be noticed by a timeout alone."""

    def script(self, wire_format: str) -> Script:
        """How a provider of that format fails."""
        return self.make(DIALECTS[wire_format])


def _refuses(
    status: int,
    anthropic: str,
    openai: str,
    message: str = "scripted",
    headers: Mapping[str, str] | None = None,
) -> Makes:
    def make(dialect: Dialect) -> Script:
        kind = anthropic if dialect is ANTHROPIC else openai
        return dialect.refuses(status, kind, message, headers or {})

    return make


def _page(status: int) -> Makes:
    return lambda _: scripted.html(status)


def _same(script: Script) -> Makes:
    return lambda _: script


def _answer(body: bytes) -> Makes:
    return lambda _: scripted.answer(200, body)


def _up_to(part: Part, then: Script | None = None) -> Makes:
    return lambda dialect: dialect.up_to(part, then)


def _cut_within_the_last_of(*content: Block) -> Makes:
    return lambda dialect: dialect.within_the_last_of(content, in_a_moment(scripted.close))


def _error_after(part: Part) -> Makes:
    def make(dialect: Dialect) -> Script:
        then = say(dialect.error_event)
        return dialect.up_to(part, then if part <= Part.OPENING else in_a_moment(then))

    return make


def _json_error(dialect: Dialect) -> Script:
    return scripted.answer(200, msgspec.json.encode(dialect.error))


def _other_dialect(dialect: Dialect) -> Script:
    return (OPENAI if dialect is ANTHROPIC else ANTHROPIC).works()


def _length(by: int) -> Makes:
    """A `content-length` that is wrong by that many bytes."""

    def make(dialect: Dialect) -> Script:
        async def script(request: Received, connection: Connection) -> None:
            body = dialect.events[0] if streams(request) else dialect.whole
            length = len(body) + by if by > 0 else len(body) // 2
            await misbehaving.of_length(length, body, media_type(request))(request, connection)

        return script

    return make


def _squeezed(_: Dialect) -> Script:
    headers = {"content-type": EVENTS, "content-encoding": "gzip"}
    return misbehaving.with_headers(200, headers, b"\x1f\x8b\x08\x00 this was never squeezed")


_BAD_CHUNK: Final = raw(b"zz\r\nno chunk is that long\r\n")
_GARBAGE: Final = say(b"data: {not JSON at all\n\n")
_NO_EVENTS: Final = {"content-type": EVENTS, "content-length": "0"}
_CREDIT: Final = "Your credit balance is too low to access the API."
_MODEL: Final = "The model does not exist."
_WINDOW: Final = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-5h-status": "rejected",
    "anthropic-ratelimit-unified-5h-reset": "4102444800",
    "retry-after": "14400",
}
_OPUS: Final = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-7d_opus-status": "rejected",
    "retry-after": "14400",
}
_LASTS: Final = Ends.LASTS

# fmt: off
_STATUSES: Final = (
    ScriptedFault("400-billing", "a 400 that says the credit is gone",
        _refuses(400, "invalid_request_error", "billing_not_active", _CREDIT), ends=_LASTS),
    ScriptedFault("400-unknown-field", "a request that only this provider does not understand",
        _refuses(400, "invalid_request_error", "unknown_parameter", "what is this?"),
        fallback_only=True, ends=_LASTS),
    ScriptedFault("401", "the key is not accepted",
        _refuses(401, "authentication_error", "invalid_api_key"), ends=_LASTS),
    ScriptedFault("401-login", "the login has run out, and stays so after it was renewed",
        _refuses(401, "authentication_error", "invalid_api_key"), ends=_LASTS, login=True),
    ScriptedFault("402", "payment is required",
        _refuses(402, "billing_error", "insufficient_funds"), ends=_LASTS),
    ScriptedFault("403", "the account may not",
        _refuses(403, "permission_error", "forbidden"), ends=_LASTS),
    ScriptedFault("404", "the model is not known",
        _refuses(404, "not_found_error", "model_not_found", _MODEL), ends=_LASTS),
    ScriptedFault("408", "the provider gave up waiting", _refuses(408, "timeout_error", "timeout")),
    ScriptedFault("413", "the request is too large for this provider",
        _refuses(413, "request_too_large", "request_too_large"), fallback_only=True, ends=_LASTS),
    ScriptedFault("422", "the request is not to be processed",
        _refuses(422, "invalid_request_error", "unprocessable"), fallback_only=True, ends=_LASTS),
    ScriptedFault("429", "too many requests", _refuses(429, "rate_limit_error", "rate_limited")),
    ScriptedFault("429-soon", "too many requests, come back in 20 s",
        _refuses(429, "rate_limit_error", "rate_limited", headers={"retry-after": "20"})),
    ScriptedFault("429-hours", "too many requests, come back in 2 h",
        _refuses(429, "rate_limit_error", "rate_limited", headers={"retry-after": "7200"}),
        ends=_LASTS),
    ScriptedFault("429-window", "the usage of a subscription is used up",
        _refuses(429, "rate_limit_error", "rate_limited", headers=_WINDOW), ends=_LASTS),
    ScriptedFault("429-model", "the usage of one model is used up",
        _refuses(429, "rate_limit_error", "rate_limited", headers=_OPUS), ends=_LASTS),
    ScriptedFault("429-quota", "the quota is used up",
        _refuses(429, "rate_limit_error", "insufficient_quota", "You exceeded your quota.")),
    ScriptedFault("500", "an internal error", _refuses(500, "api_error", "server_error")),
    ScriptedFault("502", "a gateway's page", _page(502)),
    ScriptedFault("503", "unavailable, come back in 30 s",
        _refuses(503, "api_error", "unavailable", headers={"retry-after": "30"})),
    ScriptedFault("504", "a gateway's timeout", _page(504)),
    ScriptedFault("529", "overloaded", _refuses(529, "overloaded_error", "overloaded")),
    ScriptedFault("529-as-500", "overloaded, in other words",
        _refuses(500, "api_error", "server_error", "Our servers are currently overloaded.")),
    ScriptedFault("redirect", "a redirect to somewhere else",
        _same(scripted.answer(302, b"", headers={"location": "http://127.0.0.1:1/"}))),
    ScriptedFault("999", "a status that there is not", _same(scripted.answer(999, b"{}"))),
)

_CONNECTIONS: Final = (
    ScriptedFault("refused", "no one listens there", place=Place.REFUSED),
    ScriptedFault("no-connection", "the attempt to connect is not answered", place=Place.SILENT,
        waits=True),
    ScriptedFault("no-name", "the name is not resolved", place=Place.UNKNOWN, waits=True),
    ScriptedFault("no-tls", "TLS fails", place=Place.WITHOUT_TLS),
    ScriptedFault("reset", "a reset instead of an answer", _same(scripted.reset)),
    ScriptedFault("closed", "closed instead of an answer", _same(scripted.close)),
    ScriptedFault("hang", "no byte of an answer", _same(scripted.hang), waits=True),
    ScriptedFault("not-http", "another protocol", _same(raw(b"SSH-2.0-OpenSSH_9.9\r\n"))),
    ScriptedFault("half-a-head", "closed within the head",
        _same(raw(b"HTTP/1.1 200 OK\r\ncontent-ty"))),
    ScriptedFault("endless-head", "a head that drips and never ends",
        _same(raw(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n", pause=0.02, forever=True)), waits=True),
    ScriptedFault("long-head", "a head of a megabyte", _same(misbehaving.long_head(1_000_000))),
    ScriptedFault("interim", "interim answers, and never a final one",
        _same(raw(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.02, forever=True)), waits=True),
)

_NO_ANSWERS: Final = (
    ScriptedFault("html", "200 with a page", _page(200)),
    ScriptedFault("empty", "200 with nothing", _answer(b"")),
    ScriptedFault("half-json", "200 with half a document", _answer(b'{"type":"message","cont')),
    ScriptedFault("other-json", "200 with another document", _answer(b'{"status":"ok"}')),
    ScriptedFault("json-error", "200 with an error in it", _json_error),
    ScriptedFault("wrong-format", "200 in the other wire format", _other_dialect),
    ScriptedFault("bad-gzip", "200, compressed badly", _squeezed),
    ScriptedFault("length-too-long", "closed before as many bytes as were promised", _length(9)),
    ScriptedFault("length-too-short", "fewer bytes promised than the answer has", _length(-1)),
    ScriptedFault("bad-chunk", "a chunk that is none",
        _same(misbehaving.head_first(_BAD_CHUNK))),
    ScriptedFault("hang-after-head", "a head, and no byte of a body",
        _same(misbehaving.head_first(scripted.hang)), waits=True),
    ScriptedFault("pings-only", "signs of life, and never an answer",
        lambda dialect: dialect.up_to(Part.OPENING, misbehaving.pings()), waits=True),
    ScriptedFault("no-events", "a stream without an event",
        _same(misbehaving.with_headers(200, _NO_EVENTS))),
    ScriptedFault("no-content", "a stream that ends before its content", _up_to(Part.OPENING)),
    ScriptedFault("cut-before-content", "a stream that is cut before its content",
        _up_to(Part.OPENING, scripted.close)),
    ScriptedFault("stall-before-content", "a stream that stalls before its content",
        _up_to(Part.OPENING, scripted.hang), waits=True),
    ScriptedFault("error-first", "a stream that is an error", _error_after(Part.NOTHING)),
    ScriptedFault("error-before-content", "a stream with an error before its content",
        _error_after(Part.OPENING)),
    ScriptedFault("garbage-first", "a stream of an event that is not JSON",
        lambda dialect: dialect.up_to(Part.NOTHING, _GARBAGE)),
)

_TEXT, _CALL, _ = CONTENT

_TORN: Final = (
    ScriptedFault("cut-in-text", "cut in the midst of a text",
        _up_to(Part.TEXT, in_a_moment(scripted.close))),
    ScriptedFault("reset-in-text", "reset in the midst of a text",
        _up_to(Part.TEXT, in_a_moment(scripted.reset))),
    ScriptedFault("end-in-text", "an end in good order, without a stop reason",
        _up_to(Part.TEXT, in_a_moment(say(misbehaving.COMMENT)))),
    ScriptedFault("error-in-text", "an error in the midst of a text", _error_after(Part.TEXT)),
    ScriptedFault("garbage-in-text", "an event that is not JSON in the midst of a text",
        _up_to(Part.TEXT, in_a_moment(_GARBAGE))),
    ScriptedFault("bad-chunk-in-text", "a chunk that is none in the midst of a text",
        _up_to(Part.TEXT, in_a_moment(_BAD_CHUNK))),
    ScriptedFault("stall-in-text", "silence in the midst of a text",
        _up_to(Part.TEXT, scripted.hang), waits=True),
    ScriptedFault("cut-after-text", "cut after a whole text",
        _up_to(Part.A_TEXT, in_a_moment(scripted.close))),
    ScriptedFault("cut-thinking-in-text", "cut in the midst of a text, after whole thinking",
        _cut_within_the_last_of(THINKING, _TEXT)),
    ScriptedFault("cut-thinking-in-call", "cut in the midst of a call, after whole thinking",
        _cut_within_the_last_of(THINKING, _CALL)),
    ScriptedFault("cut-thinking-text-in-call", "the same, with a whole text in between",
        _cut_within_the_last_of(THINKING, _TEXT, _CALL)),
    ScriptedFault("cut-in-call", "cut in the midst of a tool call, after a whole text",
        _up_to(Part.HALF_A_CALL, in_a_moment(scripted.close))),
    ScriptedFault("cut-after-call", "cut after a tool call, which has run by then",
        _up_to(Part.A_CALL, in_a_moment(scripted.close))),
    ScriptedFault("error-after-call", "an error after a tool call, which has run by then",
        _error_after(Part.A_CALL)),
    ScriptedFault("stall-after-call", "silence after a tool call, which has run by then",
        _up_to(Part.A_CALL, scripted.hang), waits=True),
)

_ODD: Final = (
    ScriptedFault("no-last-event", "cut when all is said but the end",
        lambda dialect: dialect.without_end(in_a_moment(scripted.close)), ends=Ends.WELL),
    ScriptedFault("drip", "an answer a few bytes at a time",
        lambda dialect: misbehaving.dripping(dialect.works()), ends=Ends.WELL),
    ScriptedFault("twice", "the same answer twice",
        lambda dialect: misbehaving.then(dialect.works(), dialect.works()), ends=Ends.WELL),
    ScriptedFault("closes-idle", "closes kept connections without a word",
        lambda dialect: misbehaving.once(dialect.works()), ends=Ends.WELL),
)
# fmt: on

FAULTS: Final[tuple[ScriptedFault, ...]] = (
    *_STATUSES,
    *_CONNECTIONS,
    *_NO_ANSWERS,
    *_TORN,
    *_ODD,
)
"""All of them, in the order in which a request meets them."""

BY_ID: Final[Mapping[str, ScriptedFault]] = {fault.id: fault for fault in FAULTS}
