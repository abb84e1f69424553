"""Everything that a provider can do wrong, as data: an id, a description, and how to do it.

`drill` takes a chain through all of it, and so do the tests of the chain. A fault lasts: the
provider that has it has it for every request.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from ccfallback.simulator import SCRIPTED_FORMATS, scripted, scripted_bedrock, scripted_vertex
from ccfallback.simulator.scripted import (
    EVENTS,
    Connection,
    Received,
    Script,
    choose,
    in_a_moment,
    one_chunk,
    raw,
)
from ccfallback.simulator.scripted_format import (
    CONTENT,
    THINKING,
    Block,
    Part,
    Reason,
    ScriptedFormat,
)

MakeScript = Callable[[ScriptedFormat], Script]

OTHER_TOKEN: Final = "sk-ant-oat-drill-other"
"""A second login of the client."""

UNKNOWN_HOST: Final = "x" * 64
"""A name that is too long for the DNS, so that no server is asked for it."""

_QUEUE: Final = 8
"""Connections that fill the shortest queue there is."""


class Place(Enum):
    """Where a provider is, as far as a connection can tell."""

    THERE = "there"
    REFUSED = "refused"
    SILENT = "silent"
    """The attempt to connect is not answered."""
    UNKNOWN = "unknown"
    """The name is not resolved."""
    WITHOUT_TLS = "without-tls"


class UnreachableAddresses:
    """Addresses of this machine that cannot be reached, from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self._sockets = ExitStack()
        self._refused = 0
        self._silent = 0

    def __enter__(self) -> Self:
        closed, full = self._socket(), self._socket()
        for each in (closed, full):
            each.bind(("127.0.0.1", 0))
        self._refused = closed.getsockname()[1]
        self._silent = full.getsockname()[1]
        # While its queue is full, the system drops any further attempt to connect.
        full.listen(0)
        for _ in range(_QUEUE):
            waiting = self._socket()
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        return self

    def __exit__(self, *_: object) -> None:
        self._sockets.close()

    def url(self, place: Place, there: str) -> str:
        """The URL of a provider in that place, which is otherwise at `there`."""
        parts = urlsplit(there)
        match place:
            case Place.THERE:
                return there
            case Place.WITHOUT_TLS:
                parts = parts._replace(scheme="https")
            case Place.UNKNOWN:
                parts = parts._replace(netloc=f"{UNKNOWN_HOST}.invalid")
            case Place.REFUSED:
                parts = parts._replace(netloc=f"127.0.0.1:{self._refused}")
            case Place.SILENT:
                parts = parts._replace(netloc=f"127.0.0.1:{self._silent}")
        return urlunsplit(parts)

    def _socket(self) -> socket.socket:
        return self._sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))


class Ends(Enum):
    """What becomes of a fault, for a client with no other provider."""

    PASSES = "passes"
    """It may be over by the next attempt."""
    LASTS = "lasts"
    """A person has to act, or hours have to pass: the client is right to give up."""
    WELL = "well"
    """It is unusual, and a good answer all the same."""


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """One way to fail."""

    id: str
    about: str
    make: MakeScript = ScriptedFormat.works
    place: Place = Place.THERE
    ends: Ends = Ends.PASSES
    login: bool = False
    """It is about a login, so the client has one instead of a key."""
    fallback_only: bool = False
    """From the primary it is an answer, not a fault."""
    waits: bool = False
    """Only a timeout may notice it."""
    other_login: bool = False
    """It spares a second login, which the client has afterwards."""
    cap: float | None = None
    """The US dollars that the provider may cost; one answer costs more than a cent."""

    def script(self, format_name: str) -> Script:
        """How a provider of that format fails."""
        return self.make(SCRIPTED_FORMATS[format_name])


def _refuse(
    status: int, reason: Reason, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> MakeScript:
    return lambda wire: wire.refuse(status, reason, message, headers)


def _refuse_later(
    status: int, reason: Reason, headers: Mapping[str, str], before: Mapping[str, str]
) -> MakeScript:
    """An answer with the headers `before`, and from then on a refusal."""

    def make(wire: ScriptedFormat) -> Script:
        answer = scripted.with_more_headers(wire.works(), before)
        refuse = wire.refuse(status, reason, headers=headers)
        return choose(wire.has_results, refuse, answer)

    return make


def _refuse_all_but(token: str, headers: Mapping[str, str]) -> MakeScript:
    """A refusal of every login but one."""
    return lambda wire: choose(
        lambda request: token in (request.header("authorization") or ""),
        wire.works(),
        wire.refuse(429, Reason.RATE_LIMIT, headers=headers),
    )


def _page(status: int) -> MakeScript:
    return lambda _: scripted.html(status)


def _same(script: Script) -> MakeScript:
    return lambda _: script


def _answer(body: bytes) -> MakeScript:
    return lambda _: scripted.answer(200, body)


def _up_to(part: Part, then: Script | None = None) -> MakeScript:
    return lambda wire: wire.up_to(part, then)


def _garbage_after(part: Part) -> MakeScript:
    def make(wire: ScriptedFormat) -> Script:
        then = one_chunk(wire.garbage)
        return wire.up_to(part, then if part <= Part.OPENING else in_a_moment(then))

    return make


def _only_signs_of_life(wire: ScriptedFormat) -> Script:
    return wire.up_to(Part.OPENING, scripted.repeating(wire.sign_of_life))


def _cut_within_last(*content: Block) -> MakeScript:
    return lambda wire: wire.within_last_block(content, in_a_moment(scripted.close))


def _error_after(part: Part) -> MakeScript:
    def make(wire: ScriptedFormat) -> Script:
        then = one_chunk(wire.overload_event)
        return wire.up_to(part, then if part <= Part.OPENING else in_a_moment(then))

    return make


def _other_format(wire: ScriptedFormat) -> Script:
    others = SCRIPTED_FORMATS.values()
    return next(other for other in others if other.whole is not wire.whole).works()


def _wrong_length(*, by: int) -> MakeScript:
    """A `content-length` that is too long by that many bytes, or half of what it should be."""

    def make(wire: ScriptedFormat) -> Script:
        async def script(request: Received, connection: Connection) -> None:
            body = wire.events(CONTENT)[0] if wire.wants_stream(request) else wire.whole(CONTENT)
            length = str(len(body) + by if by > 0 else len(body) // 2)
            headers = {"content-type": wire.media_type(request), "content-length": length}
            await scripted.with_headers(200, headers, body)(request, connection)

        return script

    return make


def _bad_gzip(_: ScriptedFormat) -> Script:
    headers = {"content-type": EVENTS, "content-encoding": "gzip"}
    return scripted.with_headers(200, headers, b"\x1f\x8b\x08\x00 this was never compressed")


_BAD_CHUNK: Final = raw(b"zz\r\nno chunk is that long\r\n")
_NO_EVENTS: Final = {"content-type": EVENTS, "content-length": "0"}
_CREDIT: Final = "Your credit balance is too low to access the API."
_MODEL: Final = "The model does not exist."
_WINDOW: Final = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-5h-status": "rejected",
    "anthropic-ratelimit-unified-5h-reset": "4102444800",
    "retry-after": "14400",
}
_NEARLY_FULL: Final = {
    "anthropic-ratelimit-unified-status": "allowed_warning",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
    "anthropic-ratelimit-unified-reset": "4102444800",
    "anthropic-ratelimit-unified-5h-status": "allowed_warning",
    "anthropic-ratelimit-unified-5h-utilization": "0.99",
    "anthropic-ratelimit-unified-5h-reset": "4102444800",
    "anthropic-ratelimit-unified-5h-surpassed-threshold": "0.9",
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
        _refuse(400, Reason.BILLING, _CREDIT), ends=_LASTS),
    ScriptedFault("400-unknown-field", "a request field that only this provider does not know",
        _refuse(400, Reason.UNKNOWN_FIELD, "what is this?"), fallback_only=True, ends=_LASTS),
    ScriptedFault("401", "the key is not accepted", _refuse(401, Reason.BAD_KEY), ends=_LASTS),
    ScriptedFault("401-login", "the login has expired, even after it was renewed",
        _refuse(401, Reason.BAD_KEY), ends=_LASTS, login=True),
    ScriptedFault("402", "payment is required", _refuse(402, Reason.PAYMENT), ends=_LASTS),
    ScriptedFault("403", "the account lacks permission",
        _refuse(403, Reason.FORBIDDEN), ends=_LASTS),
    ScriptedFault("404", "the model is unknown",
        _refuse(404, Reason.UNKNOWN_MODEL, _MODEL), ends=_LASTS),
    ScriptedFault("408", "the provider gave up waiting", _refuse(408, Reason.TIMEOUT)),
    ScriptedFault("413", "the request is too large for this provider",
        _refuse(413, Reason.TOO_LARGE), fallback_only=True, ends=_LASTS),
    ScriptedFault("422", "the request cannot be processed",
        _refuse(422, Reason.UNPROCESSABLE), fallback_only=True, ends=_LASTS),
    ScriptedFault("429", "too many requests", _refuse(429, Reason.RATE_LIMIT)),
    ScriptedFault("429-soon", "too many requests, come back in 20 s",
        _refuse(429, Reason.RATE_LIMIT, headers={"retry-after": "20"})),
    ScriptedFault("429-hours", "too many requests, come back in 2 h",
        _refuse(429, Reason.RATE_LIMIT, headers={"retry-after": "7200"}), ends=_LASTS),
    ScriptedFault("429-window", "the usage of a subscription is used up",
        _refuse(429, Reason.RATE_LIMIT, headers=_WINDOW), ends=_LASTS),
    ScriptedFault("429-model", "the usage of one model is used up",
        _refuse(429, Reason.RATE_LIMIT, headers=_OPUS), ends=_LASTS),
    ScriptedFault("429-quota", "the quota is used up",
        _refuse(429, Reason.QUOTA, "You exceeded your quota.")),
    ScriptedFault("500", "an internal error", _refuse(500, Reason.INTERNAL)),
    ScriptedFault("502", "a gateway's page", _page(502)),
    ScriptedFault("503", "unavailable, come back in 30 s",
        _refuse(503, Reason.UNAVAILABLE, headers={"retry-after": "30"})),
    ScriptedFault("504", "a gateway's timeout", _page(504)),
    ScriptedFault("529", "overloaded", _refuse(529, Reason.OVERLOADED)),
    ScriptedFault("529-as-500", "overloaded, but with another status",
        _refuse(500, Reason.INTERNAL, "Our servers are currently overloaded.")),
    ScriptedFault("redirect", "a redirect to somewhere else",
        _same(scripted.answer(302, b"", headers={"location": "http://127.0.0.1:1/"}))),
    ScriptedFault("999", "a status that does not exist", _same(scripted.answer(999, b"{}"))),
)

_CONNECTIONS: Final = (
    ScriptedFault("refused", "the connection is refused", place=Place.REFUSED),
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
    ScriptedFault("long-head", "a head of a megabyte", _same(scripted.with_long_head(1_000_000))),
    ScriptedFault("interim", "interim answers, and never a final one",
        _same(raw(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.02, forever=True)), waits=True),
)

_NO_ANSWERS: Final = (
    ScriptedFault("html", "200 with a page", _page(200)),
    ScriptedFault("empty", "200 with nothing", _answer(b"")),
    ScriptedFault("half-json", "200 with half a document", _answer(b'{"type":"message","cont')),
    ScriptedFault("other-json", "200 with another document", _answer(b'{"status":"ok"}')),
    ScriptedFault("json-error", "200 with an error in it",
        lambda wire: scripted.answer(200, wire.overload)),
    ScriptedFault("wrong-format", "200 in the other wire format", _other_format),
    ScriptedFault("bad-gzip", "200, with broken compression", _bad_gzip),
    ScriptedFault("length-too-long", "closed before all announced bytes were sent",
        _wrong_length(by=9)),
    ScriptedFault("length-too-short", "fewer bytes announced than the answer has",
        _wrong_length(by=-1)),
    ScriptedFault("bad-chunk", "a malformed chunk", _same(scripted.head_and_then(_BAD_CHUNK))),
    ScriptedFault("hang-after-head", "a head, and no byte of a body",
        _same(scripted.head_and_then(scripted.hang)), waits=True),
    ScriptedFault("pings-only", "signs of life, and never an answer",
        _only_signs_of_life, waits=True),
    ScriptedFault("no-events", "a stream without an event",
        _same(scripted.with_headers(200, _NO_EVENTS))),
    ScriptedFault("no-content", "a stream that ends before its content", _up_to(Part.OPENING)),
    ScriptedFault("cut-before-content", "a stream that is cut before its content",
        _up_to(Part.OPENING, scripted.close)),
    ScriptedFault("stall-before-content", "a stream that stalls before its content",
        _up_to(Part.OPENING, scripted.hang), waits=True),
    ScriptedFault("error-first", "a stream that is an error", _error_after(Part.NOTHING)),
    ScriptedFault("error-before-content", "a stream with an error before its content",
        _error_after(Part.OPENING)),
    ScriptedFault("garbage-first", "a stream of an event that is not JSON",
        _garbage_after(Part.NOTHING)),
)

_TEXT, _CALL, _ = CONTENT

_TORN: Final = (
    ScriptedFault("cut-in-text", "cut within a text",
        _up_to(Part.TEXT, in_a_moment(scripted.close))),
    ScriptedFault("reset-in-text", "reset within a text",
        _up_to(Part.TEXT, in_a_moment(scripted.reset))),
    ScriptedFault("end-in-text", "a clean end without a stop reason",
        lambda wire: wire.up_to(Part.TEXT, in_a_moment(one_chunk(wire.sign_of_life)))),
    ScriptedFault("error-in-text", "an error within a text", _error_after(Part.TEXT)),
    ScriptedFault("garbage-in-text", "an event that is not JSON within a text",
        _garbage_after(Part.TEXT)),
    ScriptedFault("bad-chunk-in-text", "a malformed chunk within a text",
        _up_to(Part.TEXT, in_a_moment(_BAD_CHUNK))),
    ScriptedFault("stall-in-text", "silence within a text",
        _up_to(Part.TEXT, scripted.hang), waits=True),
    ScriptedFault("cut-after-text", "cut after a whole text",
        _up_to(Part.A_TEXT, in_a_moment(scripted.close))),
    ScriptedFault("cut-thinking-in-text", "cut within a text, after whole thinking",
        _cut_within_last(THINKING, _TEXT)),
    ScriptedFault("cut-thinking-in-call", "cut within a call, after whole thinking",
        _cut_within_last(THINKING, _CALL)),
    ScriptedFault("cut-thinking-text-in-call", "the same, with a whole text in between",
        _cut_within_last(THINKING, _TEXT, _CALL)),
    ScriptedFault("cut-in-call", "cut within a tool call, after a whole text",
        _up_to(Part.HALF_A_CALL, in_a_moment(scripted.close))),
    ScriptedFault("cut-after-call", "cut after a tool call, which has run by then",
        _up_to(Part.A_CALL, in_a_moment(scripted.close))),
    ScriptedFault("error-after-call", "an error after a tool call, which has run by then",
        _error_after(Part.A_CALL)),
    ScriptedFault("stall-after-call", "silence after a tool call, which has run by then",
        _up_to(Part.A_CALL, scripted.hang), waits=True),
)

_ODD: Final = (
    ScriptedFault("no-last-event", "cut before its very last event",
        lambda wire: wire.without_last_event(in_a_moment(scripted.close)), ends=Ends.WELL),
    ScriptedFault("drip", "an answer a few bytes at a time",
        lambda wire: scripted.dripping(wire.works()), ends=Ends.WELL),
    ScriptedFault("twice", "the same answer twice",
        lambda wire: scripted.in_sequence(wire.works(), wire.works()), ends=Ends.WELL),
    ScriptedFault("closes-idle", "closes idle connections without announcement",
        lambda wire: scripted.in_sequence(wire.works(), scripted.close), ends=Ends.WELL),
)

TASK_FAULTS: Final = (
    ScriptedFault("window-fills", "the usage of a subscription is used up within the task",
        _refuse_later(429, Reason.RATE_LIMIT, _WINDOW, before=_NEARLY_FULL), ends=_LASTS),
    ScriptedFault("window-of-one-login", "the usage of one login is used up, not that of another",
        _refuse_all_but(OTHER_TOKEN, _WINDOW), ends=_LASTS, login=True, other_login=True),
    ScriptedFault("cap", "it reaches its cap of money within the task", cap=0.01, ends=_LASTS),
)
"""Faults that only show over a task, and not in each answer."""

CAPPED: Final = ScriptedFault(
    "cap/all", "every provider has reached its cap of money", cap=0.0, ends=_LASTS)
"""A fault of all providers at once."""
# fmt: on

FAULTS: Final[tuple[ScriptedFault, ...]] = (*_STATUSES, *_CONNECTIONS, *_NO_ANSWERS, *_TORN, *_ODD)
"""The faults that any provider can have, in the order in which a request meets them."""

# fmt: off
_EXPIRED: Final = "The security token included in the request is expired"
_CUT_FRAME: Final = scripted_bedrock.BEDROCK.events(CONTENT)[Part.TEXT][:40]
_OWN_ERROR: Final = scripted_bedrock.error_frame("InternalFailure", "scripted")

_BEDROCK: Final = (
    ScriptedFault("bedrock-expired", "the credentials behind the key have expired",
        lambda wire: wire.error(403, "ExpiredTokenException", _EXPIRED, {}),
        ends=_LASTS),
    ScriptedFault("bedrock-not-enabled", "the account has no access to the model",
        lambda wire: wire.error(403, "AccessDeniedException", scripted_bedrock.NO_ACCESS, {}),
        ends=_LASTS),
    ScriptedFault("bedrock-region", "the region does not have the model",
        lambda wire: scripted_bedrock.served(lambda _: False, wire.works()),
        ends=_LASTS),
    ScriptedFault("bedrock-on-demand", "the model needs an inference profile",
        lambda wire: wire.error(400, "ValidationException", scripted_bedrock.ON_DEMAND, {}),
        ends=_LASTS),
    ScriptedFault("bedrock-quota", "a quota, with the status of a bad request",
        lambda wire: wire.error(400, "ServiceQuotaExceededException", "Too many tokens", {})),
    ScriptedFault("bedrock-throttled-first", "a stream that is an exception",
        _up_to(Part.NOTHING, one_chunk(scripted_bedrock.THROTTLED))),
    ScriptedFault("bedrock-exception-in-text", "an exception within a text",
        _up_to(Part.TEXT, in_a_moment(one_chunk(scripted_bedrock.THROTTLED)))),
    ScriptedFault("bedrock-error-in-text", "an error of the service within a text",
        _up_to(Part.TEXT, in_a_moment(one_chunk(_OWN_ERROR)))),
    ScriptedFault("bedrock-wrong-checksum-in-text", "a frame with a wrong checksum within a text",
        _up_to(Part.TEXT, in_a_moment(one_chunk(scripted_bedrock.WRONG_FRAME)))),
    ScriptedFault("bedrock-half-a-frame-in-text", "a frame that is cut within a text",
        _up_to(Part.TEXT, in_a_moment(one_chunk(_CUT_FRAME)))),
)

_VERTEX: Final = (
    ScriptedFault("vertex-expired", "the access token has expired, and so has the next one",
        _same(scripted_vertex.error(401, "UNAUTHENTICATED", "Expected OAuth 2 access token")),
        ends=_LASTS),
    ScriptedFault("vertex-not-enabled", "the model is not enabled in the project",
        _same(scripted_vertex.error(404, "NOT_FOUND",
            "Publisher Model `m` was not found or your project does not have access to it.")),
        ends=_LASTS),
    ScriptedFault("vertex-not-served", "the location does not have the model",
        _same(scripted_vertex.error(400, "FAILED_PRECONDITION",
            "Publisher Model `m` is not servable in region us-east1.")),
        ends=_LASTS),
    ScriptedFault("vertex-size", "the body is larger than 30 MB",
        _same(scripted_vertex.error(400, "INVALID_ARGUMENT",
            "The request size (31457999 bytes) exceeds 30.000MB limit.")),
        ends=_LASTS),
    ScriptedFault("vertex-cancelled", "Google has cancelled the request",
        _same(scripted_vertex.error(499, "CANCELLED", "The operation was cancelled."))),
    ScriptedFault("vertex-array", "an error in an array",
        _same(scripted_vertex.in_array(503, "UNAVAILABLE"))),
    ScriptedFault("vertex-array-as-200", "an error in an array, with status 200",
        _same(scripted_vertex.in_array(200, "UNAVAILABLE"))),
    ScriptedFault("vertex-array-in-text", "an error in an array within a text",
        _up_to(Part.TEXT, in_a_moment(one_chunk(scripted_vertex.ARRAY_EVENT)))),
)
# fmt: on

SPECIAL_FAULTS: Final[Mapping[str, tuple[ScriptedFault, ...]]] = {
    "bedrock": _BEDROCK,
    "vertex": _VERTEX,
}
"""Faults that only providers of one wire format can have, by the format."""
