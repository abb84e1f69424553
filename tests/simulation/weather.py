"""What can be wrong with a provider: a table of kinds, each a plan for the answer to a request.

An event of a script gives a provider a kind of weather for some time and for a share of its
requests. Kinds that are `harmless` are unusual, but the answer is good: a provider that has no
other weather is well.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation import answers
from tests.simulation.answers import CLOSE, HTML, RESET, Plan, Question, Step, Usage, chunk, whole
from tests.simulation.network import OPEN, Door
from tests.simulation.seams import NOW

FOREVER: Final = 1e9

SMALL_WINDOW: Final = 12_000
"""Bytes of a request that a model with a small window takes."""


@dataclass(frozen=True)
class Moment:
    """A request that meets weather."""

    question: Question
    usage: Usage
    first: float
    """Seconds until a healthy answer begins."""
    gap: float
    """Seconds between its pieces."""
    chance: float
    """A number from 0 to 1 that is this request's own."""
    event: Mapping[str, Any]
    """The event of the script."""

    @property
    def left(self) -> float:
        """Seconds until the weather is over."""
        return max(0.0, float(self.event["at"]) + float(self.event["for"]) - NOW.elapsed)


MakePlan = Callable[[Moment], Plan]


@dataclass(frozen=True)
class Kind:
    """A kind of weather."""

    plan: MakePlan | None = None
    door: Door = OPEN
    harmless: bool = False
    weight: float = 1.0
    """How often a script has it."""
    longest: float = 1800.0
    """Seconds that it lasts at most."""
    memory: float = 330.0
    """Seconds for which the cooldown that it has caused may last after it."""
    unknown_name: bool = False
    primary_only: bool = False
    is_of_account: bool = False
    """It may concern one person's login only."""


def healthy(
    moment: Moment,
    stretch: float = 1.0,
    media_type: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Plan:
    """A good answer, a number of times slower than usual."""
    question, usage = moment.question, moment.usage
    if not question.is_stream:
        body = answers.message(question, usage)
        seconds = (moment.first + 4 * moment.gap) * stretch
        data = whole(200, body, media_type or b"application/json", headers)
        return Plan([(seconds, data)], usage=None if question.is_side else usage, commits=True)
    found = answers.events(question, usage)
    first, gap = moment.first * stretch, moment.gap * stretch
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()).encode()
    head = answers.STREAM_HEAD % (media_type or b"text/event-stream", more)
    # OpenAI's and Anthropic's servers send what belongs together in few pieces.
    steps: list[Step] = [
        (first, head + chunk(found.opening + found.text)),
        (gap, chunk(found.text_end + found.call)),
        (gap, chunk(b"".join((found.call_end, found.stop, found.last))) + b"0\r\n\r\n"),
    ]
    return Plan(steps, usage=usage, commits=True)


def _error(status: int, kind: str, text: str, **headers: str) -> MakePlan:
    def plan(moment: Moment) -> Plan:
        body = answers.error_body(moment.question.format, kind, text)
        fitting = {name.replace("_", "-"): value for name, value in headers.items()}
        return Plan([(moment.first, whole(status, body, headers=fitting))], status)

    return plan


def _busy(status: int, kind: str) -> MakePlan:
    """A refusal that says for how long, and means it."""

    def plan(moment: Moment) -> Plan:
        body = answers.error_body(moment.question.format, kind, "please slow down")
        wait = str(int(min(moment.left, 40.0)) + 1)
        return Plan([(moment.first, whole(status, body, headers={"retry-after": wait}))], status)

    return plan


def _lie(moment: Moment) -> Plan:
    """A refusal that asks for much more, or less, time than it takes."""
    body = answers.error_body(moment.question.format, "rate_limit_error", "come back later")
    chance = moment.chance
    wait = int(moment.left * (100 if chance < 0.2 else 10 if chance < 0.6 else 0))
    return Plan([(moment.first, whole(429, body, headers={"retry-after": str(wait)}))], 429)


def _quota(honest: float) -> MakePlan:
    """A full window of a plan."""

    def plan(moment: Moment) -> Plan:
        text = "This request would exceed your account's rate limit"
        body = answers.error_body("anthropic", "rate_limit_error", text)
        reset = int(NOW.true + moment.left * honest)
        prefix = "anthropic-ratelimit-unified"
        headers = {
            f"{prefix}-status": "rejected",
            f"{prefix}-reset": str(reset),
            f"{prefix}-5h-status": "rejected",
            f"{prefix}-5h-reset": str(reset),
            f"{prefix}-5h-utilization": "1.0",
            f"{prefix}-representative-claim": "five_hour",
        }
        return Plan([(moment.first, whole(429, body, headers=headers))], 429)

    return plan


def _fill(moment: Moment) -> Plan:
    """A window of a plan that fills up while it is used, and refuses when it is full."""
    used = utilization(moment.event, NOW.elapsed)
    prefix = "anthropic-ratelimit-unified"
    reset = str(int(NOW.true + moment.left))
    if used >= 1.0:
        return _quota(1.0)(moment)
    headers = {
        f"{prefix}-status": "allowed",
        f"{prefix}-5h-status": "allowed",
        f"{prefix}-5h-reset": reset,
        f"{prefix}-5h-utilization": f"{used:.2f}",
        f"{prefix}-representative-claim": "five_hour",
    }
    return healthy(moment, headers=headers)


def utilization(event: Mapping[str, Any], elapsed: float) -> float:
    """How far the window of `filling` is used at a moment: full after four fifths of its time."""
    spent = (elapsed - float(event["at"])) / float(event.get("told", event["for"]))
    return round(0.4 + 0.75 * spent, 2)


def _refusal(part: bytes, text: str) -> Kind:
    """A model that refuses requests in Anthropic's format with a part, and answers the others."""

    def plan(moment: Moment) -> Plan:
        question = moment.question
        if question.format == "openai" or question.is_side or part not in question.raw:
            return healthy(moment)
        return _error(400, "invalid_request_error", text)(moment)

    return Kind(plan, harmless=True, weight=0, longest=7200)


def _shrink_window(moment: Moment) -> Plan:
    """A model with a small context window."""
    length = len(moment.question.raw)
    if length <= SMALL_WINDOW:
        return healthy(moment)
    text = f"prompt is too long: {length // 4} tokens > {SMALL_WINDOW // 4} maximum"
    return _error(400, "invalid_request_error", text)(moment)


def _broken(pieces: Callable[[answers.Events], list[bytes]], *end: Step) -> MakePlan:
    """A stream that is sent so far; then something else. A whole answer is cut in half."""

    def plan(moment: Moment) -> Plan:
        question = moment.question
        if not question.is_stream:
            data = whole(200, answers.message(question, moment.usage))
            steps: list[Step] = [(moment.first, data[: len(data) - 40])]
            return Plan([*steps, *(end or ((0.5, CLOSE),))])
        whole_answer = answers.events(question, moment.usage)
        found = pieces(whole_answer)
        head = answers.STREAM_HEAD % (b"text/event-stream", b"")
        pause, gap = moment.first, moment.gap
        steps = [(pause, head)]
        steps += [(gap, chunk(piece)) for piece in found if piece]
        return Plan([*steps, *end], commits=any(found) and found[0] != whole_answer.opening)

    return plan


def _bad_event(moment: Moment) -> Plan:
    """An event that is not JSON, and the rest as if nothing were wrong."""
    if not moment.question.is_stream:
        return Plan([(moment.first, whole(200, b'{"id":"msg_1","type":"mess'))])
    bad = chunk(b"event: content_block_delta\ndata: {not JSON\n\n")
    plan = healthy(moment)
    plan.steps.insert(1, (0.1, bad))
    plan.usage = None
    return plan


def _error_event(moment: Moment, *, early: bool) -> Plan:
    """An exception in the stream, before or after its first content."""
    format_ = moment.question.format
    body = answers.error_body(format_, "overloaded_error", "Overloaded")
    if not moment.question.is_stream:
        return Plan([(moment.first, whole(200, body))])
    found = answers.events(moment.question, moment.usage)
    head = answers.STREAM_HEAD % (b"text/event-stream", b"")
    event = (b"" if format_ == "openai" else b"event: error\n") + b"data: " + body + b"\n\n"
    before = found.opening if early else found.opening + found.text
    end = chunk(event) + b"0\r\n\r\n"
    return Plan([(moment.first, head + chunk(before)), (0.3, end)], commits=not early)


def _drip(moment: Moment) -> Plan:
    """A slow stream, with signs of life."""
    if not moment.question.is_stream:
        return healthy(moment, 3.0)
    found = answers.events(moment.question, moment.usage)
    head = answers.STREAM_HEAD % (b"text/event-stream", b"")
    alive = answers.PING if moment.question.format == "anthropic" else b": alive\n\n"
    steps: list[Step] = [(moment.first, head)]
    for part in found.parts:
        if part:
            steps += [(4.0, chunk(alive)), (4.0, chunk(part))]
    return Plan([*steps, (0.0, b"0\r\n\r\n")], usage=moment.usage, commits=True)


def _drift(moment: Moment) -> Plan:
    """Latency that grows to several times the usual, and comes back."""
    spent = (NOW.elapsed - float(moment.event["at"])) / float(moment.event["for"])
    most = float(moment.event.get("most", 3.5))
    return healthy(moment, 1.0 + (most - 1.0) * (1.0 - abs(2.0 * spent - 1.0)))


def _flap(moment: Moment) -> Plan:
    """A provider that is back for one request, and gone for the next minute."""
    if int(NOW.elapsed / 37.0) % 2:
        return healthy(moment)
    return _error(500, "api_error", "internal error")(moment)


def _late_cut(moment: Moment) -> Plan:
    """A cut after the stop reason: nothing of the answer is missing."""
    plan = healthy(moment)
    if moment.question.is_stream:
        found = answers.events(moment.question, moment.usage)
        plan.steps[-1] = (moment.gap, chunk(found.call_end + found.stop))
        plan.steps.append((0.2, RESET))
        # OpenAI's usage comes behind the stop reason.
        plan.usage = moment.usage if moment.question.format == "anthropic" else None
    return plan


def _silence(moment: Moment) -> Plan:
    return Plan([(FOREVER, CLOSE)])


def _refuse_connection() -> OSError:
    return ConnectionRefusedError(111, "Connection refused")


def _break_tls() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] ssl/tls alert handshake failure")
    error.reason = "SSLV3_ALERT_HANDSHAKE_FAILURE"
    return error


_HANG: Final[Step] = (FOREVER, CLOSE)

KINDS: Final[dict[str, Kind]] = {
    "error-500": Kind(_error(500, "api_error", "internal error"), weight=3),
    "error-502-page": Kind(lambda m: Plan([(m.first, whole(502, HTML, b"text/html"))], 502)),
    "error-503": Kind(_busy(503, "api_error")),
    "burst-529": Kind(_error(529, "overloaded_error", "Overloaded"), weight=3, longest=600),
    "burst-429": Kind(_busy(429, "rate_limit_error"), weight=2, longest=600),
    "lie-429": Kind(_lie, longest=900, memory=22000),
    # Not the 330 s of a kind that tells no time: to a clock that is wrong it ends later.
    "quota": Kind(_quota(1.0), primary_only=True, is_of_account=True, longest=7200, memory=331),
    "quota-lie": Kind(
        _quota(3.0), primary_only=True, is_of_account=True, longest=1800, memory=5700
    ),
    "expired-401": Kind(
        _error(401, "authentication_error", "invalid x-api-key"), is_of_account=True, longest=3600
    ),
    "forbidden-403": Kind(_error(403, "permission_error", "not allowed"), longest=3600),
    "unpaid-402": Kind(_error(402, "billing_error", "payment required"), longest=3600),
    "unpaid-400": Kind(
        _error(400, "invalid_request_error", "Your credit balance is too low"), longest=3600
    ),
    "no-model-404": Kind(_error(404, "not_found_error", "model: not found"), longest=3600),
    "refused": Kind(door=Door(_refuse_connection, 0.05), weight=2),
    "silent-port": Kind(door=Door(is_silent=True)),
    "broken-tls": Kind(door=Door(tls=_break_tls)),
    "no-name": Kind(unknown_name=True),
    "reset": Kind(lambda _: Plan([(0.2, RESET)])),
    "hang": Kind(_silence, weight=2),
    "hang-after-head": Kind(_broken(lambda _: [], _HANG)),
    "stall": Kind(_broken(lambda e: [e.opening + e.text], _HANG), weight=2),
    "stall-in-call": Kind(_broken(lambda e: [e.opening + e.text, e.text_end + e.call], _HANG)),
    "cut": Kind(_broken(lambda e: [e.opening + e.text], (0.2, RESET)), weight=2),
    "cut-in-call": Kind(_broken(lambda e: [e.opening + e.text, e.text_end + e.call], (0.2, CLOSE))),
    "cut-after-call": Kind(
        _broken(lambda e: [e.opening + e.text, e.text_end + e.call, e.call_end], (0.2, RESET)),
        weight=2,
    ),
    "ends-early": Kind(_broken(lambda e: [e.opening + e.text], (0.2, b"0\r\n\r\n"))),
    "ends-at-once": Kind(_broken(lambda e: [e.opening], (0.2, b"0\r\n\r\n"))),
    "bad-event": Kind(_bad_event),
    "error-event": Kind(lambda m: _error_event(m, early=True), weight=2),
    "late-error-event": Kind(lambda m: _error_event(m, early=False)),
    "page-200": Kind(lambda m: Plan([(m.first, whole(200, HTML, b"text/html"))])),
    "empty-200": Kind(lambda m: Plan([(m.first, whole(200, b""))])),
    "not-http": Kind(lambda m: Plan([(m.first, b"\x00\x01\x02 garbage\r\n\r\n"), (0.1, CLOSE)])),
    "flap": Kind(_flap, weight=2, longest=900),
    "drift": Kind(_drift, harmless=True, weight=2, longest=7200),
    "drip": Kind(_drip, harmless=True),
    "wrong-label": Kind(
        lambda m: healthy(
            m, media_type=b"application/json" if m.question.is_stream else b"text/event-stream"
        ),
        harmless=True,
    ),
    "late-cut": Kind(_late_cut, harmless=True),
    # Of `--weather full` only.
    "filling": Kind(_fill, primary_only=True, weight=0, longest=14400, memory=331),
    "small-window": Kind(_shrink_window, weight=0, longest=7200, memory=90_000),
    "no-context-management": _refusal(
        b'"context_management":', "context_management: Extra inputs are not permitted"
    ),
    "no-system-turns": _refusal(
        b'"role":"system"', "messages.1.role: Input should be 'user' or 'assistant'"
    ),
    "no-effort": _refusal(b'"effort":', "This model does not support the effort parameter."),
    "no-adaptive-thinking": _refusal(
        b'"adaptive"', "adaptive thinking is not supported on this model"
    ),
    "fewer-tokens": _refusal(
        b'"max_tokens":64000',
        "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens",
    ),
}
"""Every kind of weather by its name."""
