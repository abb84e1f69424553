"""What every answer has, streamed or whole: ids, model, stop reason, usage."""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from ccfallback.messages import tokens
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError
from ccfallback.messages.stop_reasons import WINDOW_FULL, End, is_absent, read_end, stop_failure
from ccfallback.messages.tokens import Usage
from ccfallback.messages.tools import BAD_LETTER, ToolNames, alphanumerics
from ccfallback.messages.turns import blocks_of, objects_in
from ccfallback.wire.openai import errors

_TAIL: Final = 4096
_CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,256}")


class ShownThinking(Enum):
    """How much of the model's thinking the client wants to see."""

    ALL = "all"
    BLOCKS = "blocks"
    """Thinking blocks without their text."""
    NONE = "none"

    @classmethod
    def of(cls, client_body: Body) -> "ShownThinking":
        """What a request asks for; a client that asks for nothing may not know thinking blocks."""
        thinking = client_body.get("thinking")
        if not isinstance(thinking, Mapping) or thinking.get("type") in (None, "disabled"):
            return cls.NONE
        return cls.BLOCKS if thinking.get("display") == "omitted" else cls.ALL


class MessageHead:
    """The start of a message, and the ids and tool names in it, for one request of the client."""

    def __init__(self, client_body: Body, upstream_id: str | None = None) -> None:
        self.upstream_id = upstream_id
        """The answer's id as the upstream gives it; counts until `message` or `tool_id` is used."""
        self._client_body = client_body
        self._seed = ""
        self._names: ToolNames | None = None
        self._taken: set[str] = set()
        self._used: frozenset[str] | None = None

    def message(self) -> dict[str, Any]:
        """The message before any content; its usage is only known at the end."""
        return {
            "id": f"msg_{self._get_seed()[:24]}",
            "type": "message",
            "role": "assistant",
            # Claude Code looks up context window and price under the name that it requested.
            "model": self._client_body.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
            },
        }

    def tool_name(self, name: str) -> str:
        """The client's name of a tool."""
        if self._names is None:
            self._names = ToolNames.of(self._client_body)
        return self._names.to_client(name)

    def _used_ids(self) -> frozenset[str]:
        """The ids of the calls in the conversation."""
        if self._used is None:
            self._used = frozenset(
                used
                for message in objects_in(self._client_body.messages)
                for block in blocks_of(message.get("content"))
                if isinstance(used := block.get("id") or block.get("tool_use_id"), str)
            )
        return self._used

    def tool_id(self, given: str | None) -> str:
        """A call's id that is neither in this answer nor in the conversation."""
        seed = self._get_seed()
        tool_id = client_tool_id(given, self._taken, seed)
        if tool_id in self._used_ids():
            tool_id = client_tool_id(given, self._taken, seed)
        return tool_id

    def _get_seed(self) -> str:
        if not self._seed:
            raw = self._client_body.raw
            # Some upstreams always give the same id, but no two requests end in the same way.
            given = (self.upstream_id or "").encode(errors="replace")
            self._seed = sha256(b"%b %d %b" % (given, len(raw), raw[-_TAIL:])).hexdigest()
        return self._seed


def client_tool_id(raw: object, taken: set[str], seed: str) -> str:
    """A provider's id for a call as the client takes it; it is added to `taken`.

    With another `seed`, an id that has to be invented is another one.
    """
    given = raw if isinstance(raw, str) else ""
    tool_id = given if _CLIENT_ID.fullmatch(given) else BAD_LETTER.sub("_", given)[:256]
    count = len(taken)
    while not tool_id or tool_id in taken:
        tool_id = "toolu_" + alphanumerics(f"{seed}\n{given}\n{count}", 24)
        count += 1
    taken.add(tool_id)
    return tool_id


SIGNED_CALL: Final = "extra_content"
"""The member of a call that holds Gemini's signature, and of the envelope that keeps it."""


def signed_call(extra: object) -> Mapping[str, Any] | None:
    """What an envelope keeps of Gemini's signature of a call; `None` if there is none.

    A tool block has no room for it, so the thinking before the call carries it.
    """
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    if not isinstance(signature, str) or not signature:
        return None
    return {SIGNED_CALL: {"google": {"thought_signature": signature}}}


# Why an answer ended


_FAILURES: Final[Mapping[str, int]] = {"network_error": 502, "insufficient_system_resource": 529}
"""Failures of the provider itself, with their status; other bad ends are the model's."""


def failure(finish: str | None, error: object) -> UpstreamError | None:
    """The error that a choice reports; `None` if it reports none."""
    if error:
        found = errors.error_inside({"error": error})
        if found is not None:
            return found
    failed = stop_failure(finish)
    status = _FAILURES.get((finish or "").lower())
    if failed is None or status is None:
        return failed
    return errors.error_for_status(status, failed.message)


def is_end(finish: str | None) -> bool:
    """Whether a finish reason says that the answer has ended."""
    return not is_absent(finish)


def is_refused(finish: str | None) -> bool:
    """Whether a filter ended the answer."""
    return read_end(finish) is End.REFUSED


def is_good_end(finish: str | None) -> bool:
    """Whether the model has ended its turn."""
    return read_end(finish) is End.TURN


def is_cut(finish: str | None) -> bool:
    """Whether the answer reached its limit of tokens."""
    return read_end(finish) is End.CUT


def stop_reason(finish: str | None, *, has_calls: bool, is_whole: bool, is_refusal: bool) -> str:
    """Anthropic's stop reason; calls count more than the upstream's reason for the end.

    `is_whole` says that the arguments of the calls are complete.
    """
    end = read_end(finish)
    if end is End.REFUSED:
        return "refusal"
    if end is End.WINDOW_FULL:
        return WINDOW_FULL
    if end is End.CUT and not (has_calls and is_whole):
        return "max_tokens"
    if has_calls:
        return "tool_use"
    return "refusal" if is_refusal else "end_turn"


def stop_sequence(named: object, client_body: Body) -> str | None:
    """The stop sequence that ended the answer, if the upstream names one that the client gave.

    vLLM does; at other providers, such an end looks like any other.
    """
    if not isinstance(named, str) or not named:
        return None
    sequences = client_body.get("stop_sequences")
    return named if isinstance(sequences, list) and named in sequences else None


# Tokens: OpenAI counts cached ones in, Anthropic counts them apart


BYTES_A_TOKEN: Final = 4
"""Roughly, for an answer whose tokens were not counted."""

_PROMPT: Final = (("prompt_tokens",), ("input_tokens",))
_ANSWER: Final = (("completion_tokens",), ("output_tokens",))
_CACHED: Final = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("prompt_tokens_details", "num_cached_tokens"),
    ("cached_tokens",),
    ("num_cached_tokens",),
    ("cache_read_input_tokens",),
)
_WRITTEN: Final = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("cache_creation_input_tokens",),
)
_REASONING: Final = (("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",))
_TOTAL: Final = (("total_tokens",),)


def take_usage(usage: Usage, value: object) -> int | None:
    """Take over the counts of a usage object; returns the tokens of thinking, if it has them.

    With a count that is too large it takes none, and the usage `is_impossible`.
    """
    if not isinstance(value, Mapping):
        return None
    prompt, answer = _first(value, _PROMPT), _first(value, _ANSWER)
    cached, written = _first(value, _CACHED) or 0, _first(value, _WRITTEN) or 0
    reasoning, total = _first(value, _REASONING), _first(value, _TOTAL)
    counts = (prompt, answer, cached, written, reasoning, total)
    if any(count is not None and count >= tokens.MOST_TOKENS for count in counts):
        usage.is_impossible = True
        return None
    # A relay that does not count reports a prompt of zero tokens.
    if prompt:
        # Grok on Azure leaves cached tokens out of the prompt.
        whole = prompt if cached <= prompt else prompt + cached
        # The parts never exceed the whole: some count what they read from the cache as written.
        written = min(written, whole - cached)
        usage.input_tokens = whole - cached - written
        usage.cache_read, usage.cache_write = cached, written
    if answer is not None and (answer or prompt):
        usage.output_tokens = answer + _apart(answer, reasoning or 0, prompt, cached, total)
        if reasoning is not None:
            reasoning = min(reasoning, usage.output_tokens)
    return reasoning


def _apart(answer: int, reasoning: int, prompt: int | None, cached: int, total: int | None) -> int:
    """The tokens of thinking that the count of the answer does not include.

    xAI and some others count them apart, and Gemini only in the total.
    """
    if reasoning > answer:
        return reasoning
    rest = 0 if total is None or prompt is None else total - prompt - answer
    return rest if rest > 0 and rest != cached else 0


def llama_usage(timings: object) -> dict[str, int] | None:
    """The usage object for the `timings` of llama.cpp."""
    if not isinstance(timings, Mapping):
        return None
    cached, prompt = _count(timings.get("cache_n")) or 0, _count(timings.get("prompt_n"))
    answer = _count(timings.get("predicted_n"))
    if prompt is None or answer is None:
        return None
    return {"prompt_tokens": prompt + cached, "cached_tokens": cached, "completion_tokens": answer}


def client_usage(
    usage: Usage, thinking: int | None, client_body: Body, sent_bytes: int
) -> dict[str, Any]:
    """The usage object for the client, with estimates for what the upstream did not count."""
    prompt = usage.input_tokens
    answer = usage.output_tokens
    counts: dict[str, Any] = {
        "input_tokens": tokens.estimate(client_body) if prompt is None else prompt,
        "cache_creation_input_tokens": usage.cache_write or 0,
        "cache_read_input_tokens": usage.cache_read or 0,
        "output_tokens": -(-sent_bytes // BYTES_A_TOKEN) if answer is None else answer,
    }
    if thinking is not None:
        counts["output_tokens_details"] = {"thinking_tokens": thinking}
    return counts


def _first(value: Mapping[str, Any], places: Iterable[tuple[str, ...]]) -> int | None:
    for path in places:
        found: Any = value
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if (count := _count(found)) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and value >= tokens.MOST_TOKENS:
        return None
    return int(value) if value > 0 else 0
