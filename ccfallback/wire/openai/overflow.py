"""A conversation that does not fit, in everybody's words.

The client makes its conversation shorter when it reads Anthropic's words, and only then.
"""

import re
from collections.abc import Mapping
from typing import Final

from ccfallback.messages.errors import UpstreamError
from ccfallback.policy.outcome import Fault, Outcome, is_prompt_too_long

_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "1261"})

_INPUTS: Final = re.compile(r"`inputs` tokens \+ `max_new_tokens` must be")

_ANTHROPIC: Final = re.compile(
    r"prompt is too long: \d+ tokens > \d+ maximum"
    r"|input length and `?max_tokens`? exceed context limit: \d+ \+ \d+ > \d+"
)
_IN: Final = r"(?P<prompt>\d[\d,]{0,15})"
_ALL: Final = r"(?P<asked>\d[\d,]{0,15})"
_MAX: Final = r"(?P<most>\d[\d,]{0,15})"

_COUNTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # OpenAI, DeepSeek, vLLM
        rf"maximum context length is {_MAX} tokens.{{0,40}}(?:requested|resulted in)"
        rf" (?:about )?{_ALL} tokens",
        rf"maximum context length is {_MAX} tokens.{{0,60}}request has {_IN} input tokens",
        rf"maximum context length is {_MAX}\b.{{0,40}}requested {_ALL}",
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
        rf"must be <= {_MAX}\. Given: {_IN} `inputs` tokens",
        # Others
        rf"{_ALL} tokens.{{0,60}}but model only supports up to {_MAX}",
        rf"{_ALL} tokens > {_MAX}",
    )
)

_TOO_MUCH_OUTPUT: Final = re.compile(
    r"`inputs` tokens and (?P<tgi>\d{1,16}) `max_new_tokens`"
    r"|(?P<openai>\d{1,16}) in (?:the|your) completion"
    r"|'max_(?:completion_)?tokens' is too large: (?P<vllm>\d{1,16})",
)


def as_too_long(status: int, error: UpstreamError) -> str | None:
    """Anthropic's message for a conversation that does not fit; `None` for any other error."""
    # Together says 403, some relays 422 or 500; a throttle speaks of other limits.
    if status in (401, 402, 404, 429) or not _is_too_long(error):
        return None
    message = error.message
    if _ANTHROPIC.search(message):
        return message
    counts = next((found for count in _COUNTS if (found := count.search(message))), None)
    if counts is None:
        return f"prompt is too long ({message})"
    sizes = {name: int(text.replace(",", "")) for name, text in counts.groupdict().items()}
    most, output = sizes["most"], _output(message)
    prompt = sizes.get("prompt", sizes.get("asked", 0) - (output or 0))
    if output is not None and prompt <= most:
        # It would fit with a shorter answer, and the client knows what to do then, too.
        return (
            f"input length and `max_tokens` exceed context limit: {prompt} + {output} > {most},"
            f" decrease input length or `max_tokens` and try again ({message})"
        )
    if prompt <= most:
        return f"prompt is too long ({message})"
    return f"prompt is too long: {sizes.get('asked', prompt)} tokens > {most} maximum ({message})"


def _is_too_long(error: UpstreamError) -> bool:
    return (
        error.code.lower() in _CODES
        or error.type.lower() in _CODES
        or is_prompt_too_long(Outcome(Fault.REQUEST, message=error.message))
        or _INPUTS.search(error.message) is not None
    )


def _output(message: str) -> int | None:
    found = _TOO_MUCH_OUTPUT.search(message)
    words: Mapping[str, str | None] = found.groupdict() if found else {}
    return next((int(size) for size in words.values() if size), None)
