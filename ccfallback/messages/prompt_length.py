"""Refusals of a prompt that does not fit the model's context.

Every provider has its own sentence for it, but Claude Code compacts the conversation only when it
reads Anthropic's. A sentence is recognized by its structure: a word for the input stands near a
word for too much. If the refusal counts prompt and answer together and the prompt alone fits, the
answer has to be shortened, and not the conversation.
"""

import re
from typing import Final

import msgspec

from ccfallback.messages.patterns import lazy_re

_MARKER: Final = "prompt is too long"
_ANTHROPIC_WORDS: Final = lazy_re(
    r"prompt is too long: \d+ tokens > \d+ maximum"
    r"|input length and `?max_tokens`? exceed context limit: \d+ \+ \d+ > \d+"
)

_CODES: Final = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "context_window_exceeded",
        "model_context_window_exceeded",
        "model_max_prompt_tokens_exceeded",
        "too_many_prompt_tokens",
        "prompt_too_long",
        "input_too_long",
        "request_too_large",
        # Zhipu's number.
        "1261",
    }
)
"""Codes and types that say it by themselves."""

_INPUT: Final = (
    r"(?:\bprompts?\b|\bprompt_tokens\b|(?<!validation error: )\binputs?\b"
    r"(?! (?:should|tag|image|audio|video|file|schema|validation|parameter))"
    # Not a path in the body, and not the end of a request's time in Go's words.
    r"|\bmessages?\b(?![.\[]\w?\d)|\bconversations?\b"
    r"|\bcontext(?: ?window|length)?(?:s\b|\b|(?=exceed))(?! (?:deadline|cancel))"
    r"|(?<!output )(?<!completion )\btokens\b|\btoken (?:count|length|limit)\b)"
)
_TOO_MUCH: Final = (
    r"(?:\btoo (?:long|large|big)\b|\btoo many\b(?= (?:\w+ ){0,2}tokens)"
    r"|exceed(?:s|ed|ing)?(?:\b|(?=error))"
    r"|\b(?:longer|greater|larger|more|bigger) than\b|\boverflow(?:s|ed|ing)?\b"
    r"|\bmust be (?:less|smaller|shorter|at most|no more|<)"
    r"|\b(?:does|do|did|will|can) ?n[o']t fit\b|\breduce the (?:length|size|number)\b"
    r"|\b(?:over|above|beyond) (?:the |its )?(?:\w+ )?(?:limit|maximum)\b)"
)
_NEAR: Final = r"(?:(?![.;!?] )[^\n]){0,90}?"

_TOO_LONG: Final = lazy_re(
    rf"{_INPUT}{_NEAR}{_TOO_MUCH}|{_TOO_MUCH}{_NEAR}{_INPUT}"
    # Words that mean it without saying that it is too much.
    r"|maximum (?:context|prompt|input) (?:length|size)|\bonly supports up to\b"
    r"|range of input length should be"
    # Chinese: input, context or prompt; exceeds or too long.
    r"|(?:输入|上下文|提示词?).{0,24}(?:超过|超出|超限|过长|太长)",
    re.IGNORECASE,
)

_ANSWER: Final = lazy_re(
    r"max_?(?:new_|completion_|output_)?tokens\b|\bmax (?:new |completion |output )?tokens\b"
    r"|\b(?:output|completion) tokens\b|budget_?tokens\b",
    re.IGNORECASE,
)
"""Names of the answer's limit. A text about it asks for a shorter answer."""

_MESSAGE_TOKENS: Final = lazy_re(r"\bexceed(?:s|ed)? max message tokens\b", re.IGNORECASE)

_OTHER: Final = lazy_re(
    # A throttle names its limits too.
    r"\bper[ -](?:minute|min|hour|day|second|month)\b|/min\b|\b[TR]P[MD]\b|please wait|rate.?limit"
    r"|\b(?:hourly|daily|weekly|monthly)\b|\bconcurren\w+|\bquota\b|\bbalance\b|\bcredits?\b",
    re.IGNORECASE,
)
"""Words of refusals that end with time or money."""

_MEDIA: Final = lazy_re(
    r"\b(?:images?|pictures?|pixels?|audio|video|pdfs?|files?|documents?|pages?|bytes|[KM]i?B)\b",
    re.IGNORECASE,
)
"""A refusal that names an attachment, and no tokens, is about the attachment."""
_TOKENS: Final = lazy_re(r"\btokens\b", re.IGNORECASE)

_PATH: Final = lazy_re(r"(?:^|[\s'\"`(])(?:messages|tools|system|thinking|metadata)(?:\.|\[)\w")
"""A place in the body: the refusal is about what stands there."""

_LEAST_ANSWER: Final = 1024
"""Tokens; with less room than this, the conversation has to be shortened."""

_SIZE: Final = r"\d[\d,]{0,15}"
_IN: Final = rf"(?P<prompt>{_SIZE})"
_OUT: Final = rf"(?P<output>{_SIZE})"
_ALL: Final = rf"(?P<asked>{_SIZE})"
_MAX: Final = rf"(?P<limit>{_SIZE})"
_CONTEXT: Final = rf"maximum context length is {_MAX}"

_COUNTS: Final = tuple(
    lazy_re(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # Anthropic
        rf"input length and `?max_tokens`? exceed context limit: {_IN} \+ {_OUT} > {_MAX}",
        # vLLM
        rf"{_CONTEXT} tokens.{{0,60}}request has {_IN} input tokens",
        rf"{_CONTEXT} tokens.{{0,40}}requested {_OUT} output tokens"
        rf".{{0,80}}prompt contains (?:at least )?{_IN}\b",
        rf"passed {_IN} input tokens and requested {_OUT} output tokens"
        rf".{{0,60}}context length is (?:only )?{_MAX}",
        # SGLang
        rf"maximum context length of {_MAX} tokens.{{0,40}}total of {_SIZE} tokens: {_IN} tokens"
        rf" from the input messages and {_OUT} tokens for the completion",
        # OpenAI, OpenRouter, DeepSeek
        rf"{_CONTEXT} tokens.{{0,40}}requested (?:about )?{_ALL} tokens"
        rf" \(.{{0,80}}?\b{_OUT} (?:in|for) (?:the|your) (?:completion|output)",
        rf"{_CONTEXT} tokens.{{0,40}}(?:requested|resulted in) (?:about )?{_ALL} tokens",
        rf"{_CONTEXT}\b.{{0,40}}requested {_ALL}\b(?! (?:output|completion))",
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

_OUTPUT: Final = lazy_re(
    rf"{_OUT} in (?:the|your) completion|['`]?max_(?:completion_)?tokens['`]? is too large: "
    rf"(?P<vllm>{_SIZE})"
)

_PARTS: Final = tuple(
    lazy_re(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_IN} (?:tokens? (?:of|from|in|for) (?:the |your )?)?(?:input|prompt|messages?)\b",
        rf"\b{_OUT} (?:tokens? (?:of|from|in|for) (?:the |your )?)?(?:output|completion|answer)\b",
        rf"\b(?:context|window)\b[^\d\n]{{0,40}}?\b{_MAX}\b",
    )
)
"""Prompt, answer and window, wherever the sentence has them."""

_NUMBER: Final = lazy_re(r"(?<![\w.,-])\d{1,3}(?:,\d{3})+(?![\w,])|(?<![\w.-])\d{3,15}(?![\w-])")


class ContextSizes(msgspec.Struct, frozen=True):
    """The tokens that a refusal of a long prompt counts."""

    limit: int
    """What the model's context holds."""
    asked: int
    """What the request asked for: the prompt, with the answer if the upstream adds it."""
    prompt: int | None
    """The prompt alone; `None` if `asked` may include the answer."""
    output: int | None
    """The limit of the answer; `None` if the refusal does not give it."""

    @property
    def prompt_fits(self) -> bool:
        """Whether the prompt alone is known to fit, so that a shorter answer would do."""
        return (
            self.prompt is not None
            and self.output is not None
            and min(self.output, _LEAST_ANSWER) <= self.limit - self.prompt
        )


def context_sizes(message: str) -> ContextSizes | None:
    """The numbers in a refusal of a prompt that is too long; `None` if it has none."""
    found = next((match for count in _COUNTS if (match := count.search(message))), None)
    if found is None:
        return _parts(message)
    sizes = {name: _int(size) for name, size in found.groupdict().items()}
    output = sizes.get("output")
    if output is None and (more := _OUTPUT.search(message)):
        output = _int(more["output"] or more["vllm"])
    prompt = sizes.get("prompt")
    if prompt is None and output is not None:
        prompt = sizes["asked"] - output
    return ContextSizes(sizes["limit"], sizes.get("asked", prompt or 0), prompt, output)


def _parts(message: str) -> ContextSizes | None:
    """The sizes of a sentence that names prompt, answer and window in any order."""
    sizes: dict[str, int] = {}
    for part in _PARTS:
        found = part.search(message)
        if found is None:
            return None
        sizes |= {name: _int(size) for name, size in found.groupdict().items()}
    if sizes["prompt"] + sizes["output"] <= sizes["limit"]:
        return None
    return ContextSizes(sizes["limit"], sizes["prompt"], sizes["prompt"], sizes["output"])


def _int(size: str) -> int:
    return int(size.replace(",", ""))


def says_prompt_too_long(message: str, *codes: str) -> bool:
    """Whether a refusal says, in any provider's words, that the prompt alone is too long.

    False for a throttle, and for an answer that is too long beside a prompt that fits.
    """
    if _MARKER in message.lower():
        return True
    if _OTHER.search(message):
        return False
    sizes = context_sizes(message)
    if sizes is not None:
        return not sizes.prompt_fits
    if any(code.lower() in _CODES for code in codes):
        return True
    if _ANSWER.search(message) and not _MESSAGE_TOKENS.search(message):
        return False
    if _PATH.search(message) or (_MEDIA.search(message) and not _TOKENS.search(message)):
        return False
    text = message.replace("_", " ") if " " not in message.strip() else message
    return _TOO_LONG.search(text) is not None


def says_answer_too_long(message: str) -> bool:
    """Whether a refusal counts prompt and answer, and the prompt alone fits."""
    if _OTHER.search(message):
        return False
    sizes = context_sizes(message)
    return sizes is not None and sizes.prompt_fits


def prompt_too_long(message: str) -> str:
    """A refusal of a long prompt in Anthropic's words, by which Claude Code compacts."""
    start = message.lower().find(_MARKER)
    if start >= 0:
        return _MARKER + message[start + len(_MARKER) :]
    sizes = _two_sizes(message)
    if sizes is not None:
        return _describe_sizes(*sizes, message)
    return f"{_MARKER}: {message or 'the provider refused the length of the conversation'}"


def prompt_too_long_with_sizes(message: str) -> str:
    """The same with the numbers that the upstream gave.

    If a shorter answer would fit, the words are those by which Claude Code lowers `max_tokens`.
    """
    if _ANTHROPIC_WORDS.search(message):
        return message
    sizes = context_sizes(message)
    if sizes is not None and sizes.prompt_fits:
        return (
            f"input length and `max_tokens` exceed context limit: {sizes.prompt} + {sizes.output}"
            f" > {sizes.limit}, decrease input length or `max_tokens` and try again ({message})"
        )
    two = _two_sizes(message)
    return f"{_MARKER} ({message})" if two is None else _describe_sizes(*two, message)


def _describe_sizes(asked: int, limit: int, message: str) -> str:
    return f"{_MARKER}: {asked} tokens > {limit} maximum ({message})"


def _two_sizes(message: str) -> tuple[int, int] | None:
    """The size of the prompt and that of the context, if a refusal gives both."""
    sizes = context_sizes(message)
    if sizes is not None:
        return (sizes.asked, sizes.limit) if sizes.asked > sizes.limit else None
    numbers = {_int(found[0]) for found in _NUMBER.finditer(message)}
    return (max(numbers), min(numbers)) if len(numbers) == 2 else None
