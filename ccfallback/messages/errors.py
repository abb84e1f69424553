"""Errors: an upstream's, whatever its shape, and our own in Anthropic's envelope.

Providers of any format answer with Anthropic's envelope, OpenAI's, FastAPI's `detail`, a bare
message, a list with one error, or HTML; one liberal reader serves them all. That the prompt is too
long has a wording per provider, but Claude Code compacts only when it reads Anthropic's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE

_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_LONGEST: Final = 4000
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z_.]{0,47}\d{0,3}|\d{1,6}")

_TOO_LONG: Final = re.compile(
    r"prompt is too long|input is too long|context_length_exceeded|maximum context length"
    r"|exceeds? the (?:model'?s )?(?:maximum )?context|context ?window ?exceed"
    r"|exceeds the available context size|longer than the model'?s context"
    r"|exceeds the maximum number of tokens|exceeded model token limit"
    r"|input token length too long|maximum prompt length|prompt exceeds max length"
    r"|range of input length should be|context window exceeds limit"
    r"|but model only supports up to|reduce the length of the messages"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be",
    re.IGNORECASE,
)
_TOO_LONG_CODES: Final = frozenset(
    # The number is Zhipu's.
    {"context_length_exceeded", "exceed_context_size_error", "1261"}
)
_MARKER: Final = "prompt is too long"
_ANTHROPIC_WORDS: Final = re.compile(
    r"prompt is too long: \d+ tokens > \d+ maximum"
    r"|input length and `?max_tokens`? exceed context limit: \d+ \+ \d+ > \d+"
)

_SIZE: Final = r"\d[\d,]{0,15}"
_IN: Final = rf"(?P<prompt>{_SIZE})"
_OUT: Final = rf"(?P<output>{_SIZE})"
_ALL: Final = rf"(?P<asked>{_SIZE})"
_MAX: Final = rf"(?P<limit>{_SIZE})"
_CONTEXT: Final = rf"maximum context length is {_MAX}"

_COUNTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # Anthropic
        rf"input length and `?max_tokens`? exceed context limit: {_IN} \+ {_OUT} > {_MAX}",
        # vLLM
        rf"{_CONTEXT} tokens.{{0,60}}request has {_IN} input tokens",
        rf"{_CONTEXT} tokens.{{0,40}}requested {_OUT} output tokens"
        rf".{{0,80}}prompt contains at least {_IN}\b",
        # OpenAI, OpenRouter, DeepSeek
        rf"{_CONTEXT} tokens.{{0,40}}requested (?:about )?{_ALL} tokens"
        rf" \(.{{0,80}}?\b{_OUT} (?:in|for) (?:the|your) (?:completion|output)",
        rf"{_CONTEXT} tokens.{{0,40}}(?:requested|resulted in) (?:about )?{_ALL} tokens",
        rf"{_CONTEXT}\b.{{0,40}}requested {_ALL}",
        # Mistral
        rf"contains {_ALL} tokens.{{0,80}}model with {_MAX} maximum context length",
        # Gemini
        rf"token count \({_ALL}\) exceeds the maximum number of tokens allowed \({_MAX}\)",
        # llama.cpp
        rf"request \({_ALL} tokens\) exceeds the available context size \({_MAX} tokens\)",
        rf"\({_ALL} tokens > {_MAX} maximum\)",
        # Moonshot
        rf"token limit: {_MAX} \(requested: {_ALL}\)",
        # xAI
        rf"maximum prompt length is {_MAX} but the request contains {_ALL} tokens",
        # Together and text-generation-inference
        rf"must be <= {_MAX}\. Given: {_IN} `?inputs`? tokens and {_OUT} `?max_new_tokens`?",
        rf"must be <= {_MAX}\. Given: {_IN} `?inputs`? tokens",
        # Others
        rf"{_ALL} tokens.{{0,60}}but model only supports up to {_MAX}",
        rf"{_ALL} tokens > {_MAX}",
    )
)
"""The numbers in a refusal; the first that fits counts."""

_OUTPUT: Final = re.compile(
    rf"{_OUT} in (?:the|your) completion|['`]?max_(?:completion_)?tokens['`]? is too large: "
    rf"(?P<vllm>{_SIZE})"
)


@dataclass(frozen=True, slots=True)
class UpstreamError:
    """What an upstream said went wrong."""

    type: str = ""
    message: str = ""
    code: str = ""
    """A machine-readable code, if the upstream gives one."""
    status: int | None = None
    """The status that the body itself claims, if any."""

    @property
    def kind(self) -> str:
        """Its type if it is safe to show: a plain word, neither a key nor a sentence."""
        return self.type if _KIND.fullmatch(self.type) else ""


def read_error(body: bytes) -> UpstreamError:
    """The error in an answer's body; never raises."""
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        return UpstreamError(message=plain_text(body))
    return error_of(value)


def error_of(value: Any) -> UpstreamError:
    """The error in a decoded answer."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping):
        return UpstreamError(message=_text(value))
    error = value.get("error", value)
    if isinstance(error, str):
        kind = value.get("type")
        return UpstreamError(type=_word("" if kind == "error" else kind), message=_text(error))
    if not isinstance(error, Mapping):
        error = value
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    code = code or error.get("code")
    kind = error.get("type") or error.get("status")
    message = _text(error.get("message") or error.get("detail") or error.get("msg"))
    return UpstreamError(
        type=_word("" if error is value and kind == "error" else kind),
        message=_with_reason(message, error.get("metadata")),
        code=_word(code),
        status=code if isinstance(code, int) and 400 <= code < 600 else None,
    )


def _with_reason(message: str, metadata: Any) -> str:
    """The message with the reason that OpenRouter got from the provider behind it."""
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if isinstance(raw, str):
        try:
            value = msgspec.json.decode(raw)
        except (*UNREADABLE, UnicodeError):
            value = raw
    else:
        value = raw if isinstance(raw, Mapping) else None
    reason = error_of(value).message if isinstance(value, Mapping | list) else str(value or "")
    reason = reason[:_LONGEST]
    return f"{message}: {reason}" if reason and reason not in message else message


def is_error(value: Any) -> bool:
    """Whether the decoded body of a 2xx answer is an error nevertheless."""
    return isinstance(value, Mapping) and (value.get("type") == "error" or bool(value.get("error")))


def plain_text(body: bytes) -> str:
    """What a body that is not JSON says, without its tags, on one line."""
    text = body[:_LONGEST].decode("utf-8", "replace")
    title = _TITLE.search(text)
    return _SPACE.sub(" ", _TAGS.sub(" ", title[1] if title else text)).strip()[:200]


@dataclass(frozen=True, slots=True)
class ContextSizes:
    """The tokens that a refusal of a long prompt counts."""

    limit: int
    """What the model's context holds."""
    asked: int
    """What the request asked for: the prompt, with the answer if the upstream adds it."""
    prompt: int | None
    """The prompt alone; `None` if `asked` may include the answer."""
    output: int | None
    """The limit of the answer; `None` if the refusal does not give it."""


def context_sizes(message: str) -> ContextSizes | None:
    """The numbers in a refusal of a prompt that is too long; `None` if it has none."""
    found = next((match for count in _COUNTS if (match := count.search(message))), None)
    if found is None:
        return None
    sizes = {name: int(size.replace(",", "")) for name, size in found.groupdict().items()}
    output = sizes.get("output")
    if output is None and (more := _OUTPUT.search(message)):
        output = int((more["output"] or more["vllm"]).replace(",", ""))
    prompt = sizes.get("prompt")
    if prompt is None and output is not None:
        prompt = sizes["asked"] - output
    return ContextSizes(sizes["limit"], sizes.get("asked", prompt or 0), prompt, output)


def says_prompt_too_long(message: str, *codes: str) -> bool:
    """Whether a refusal says, in any provider's words, that the prompt is too long."""
    return _TOO_LONG.search(message) is not None or any(
        code.lower() in _TOO_LONG_CODES for code in codes
    )


def prompt_too_long(message: str) -> str:
    """A refusal of a long prompt in Anthropic's words, by which Claude Code compacts."""
    start = message.lower().find(_MARKER)
    if start >= 0:
        return _MARKER + message[start + len(_MARKER) :]
    return f"{_MARKER}: {message or 'the provider refused the length of the conversation'}"


def prompt_too_long_with_sizes(message: str) -> str:
    """The same with the numbers that the upstream gave.

    If a shorter answer would fit, the words are those by which Claude Code lowers `max_tokens`.
    """
    if _ANTHROPIC_WORDS.search(message):
        return message
    sizes = context_sizes(message)
    if sizes is None:
        return f"{_MARKER} ({message})"
    prompt = sizes.asked if sizes.prompt is None else sizes.prompt
    if prompt <= sizes.limit and sizes.output is None:
        return f"{_MARKER} ({message})"
    if prompt <= sizes.limit:
        return (
            f"input length and `max_tokens` exceed context limit: {prompt} + {sizes.output}"
            f" > {sizes.limit}, decrease input length or `max_tokens` and try again ({message})"
        )
    return f"{_MARKER}: {sizes.asked} tokens > {sizes.limit} maximum ({message})"


def encode(kind: str, message: str, request_id: str, **more: Any) -> bytes:
    """An error of our own, in Anthropic's envelope."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message, **more},
            "request_id": request_id,
        }
    )


def _word(value: Any) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if len(text) <= 64 and text.isprintable() else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value[:_LONGEST]
    return msgspec.json.encode(value).decode()[:_LONGEST]
