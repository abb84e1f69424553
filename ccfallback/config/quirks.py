"""What providers of the OpenAI format do differently, as switches of one provider.

A user sets them as keys of a `[[providers]]` table, a preset carries them. Each default suits a
provider that nothing is known of: nothing is asked for that some of them would refuse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ccfallback.config import checks
from ccfallback.messages.effort import EFFORTS

NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """The switches; what each means stands in `ABOUT`."""

    max_output_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    sampling: bool = True
    top_k: bool = False
    stop_limit: int = 4
    stream_usage: bool = True
    user_field: bool = True
    response_format: str = "json_schema"
    extra_body: Mapping[str, Any] = field(default_factory=lambda: NOTHING_MORE)

    reasoning: str = "none"
    max_effort: str = "high"
    reasoning_content: str = "drop"
    think_tags: bool = True

    system_role: str = "system"
    system_inline: bool = False
    string_content: bool = True
    null_content: bool = True
    user_after_tool: bool = True
    prefill: str = "plain"
    cache_control: bool = False
    images: bool = True
    pdf: bool = False

    tool_id_style: str = "short"
    tool_choice_required: bool = True
    parallel_tool_calls: bool = True
    thought_signature: bool = False
    schema: str = "openai"


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise checks.Expected("a table")
    return dict(value)


CHECKS: Final[Mapping[str, checks.Check[Any]]] = MappingProxyType(
    {
        "max_output_tokens": checks.integer(1, 1 << 31),
        "max_tokens_field": checks.choice(("max_tokens", "max_completion_tokens", "auto")),
        "sampling": checks.boolean,
        "top_k": checks.boolean,
        "stop_limit": checks.integer(0, 64),
        "stream_usage": checks.boolean,
        "user_field": checks.boolean,
        "response_format": checks.choice(("json_schema", "json_object", "prompt")),
        "extra_body": _table,
        "reasoning": checks.choice(("none", "effort", "openrouter", "thinking", "enable_thinking")),
        "max_effort": checks.choice(EFFORTS),
        "reasoning_content": checks.choice(("drop", "calls", "all")),
        "think_tags": checks.boolean,
        "system_role": checks.choice(("system", "developer", "user")),
        "system_inline": checks.boolean,
        "string_content": checks.boolean,
        "null_content": checks.boolean,
        "user_after_tool": checks.boolean,
        "prefill": checks.choice(("plain", "prefix", "partial")),
        "cache_control": checks.boolean,
        "images": checks.boolean,
        "pdf": checks.boolean,
        "tool_id_style": checks.choice(("keep", "short", "mistral")),
        "tool_choice_required": checks.boolean,
        "parallel_tool_calls": checks.boolean,
        "thought_signature": checks.boolean,
        "schema": checks.choice(("openai", "gemini", "kimi")),
    }
)
"""What may be written for each switch."""

ABOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_output_tokens": "the most tokens an answer may be asked to have",
        "max_tokens_field": "what that limit is called; auto goes by the model's name",
        "sampling": "send temperature and top_p",
        "top_k": "send top_k",
        "stop_limit": "how many stop sequences may be sent; 0 sends none",
        "stream_usage": "ask for the token count at the end of a stream",
        "user_field": "send the pseudonym of the user",
        "response_format": "how JSON of a given schema is asked for; prompt asks in words",
        "extra_body": "a table of further members of every request",
        "reasoning": "how thinking is asked for",
        "max_effort": "the highest effort it knows",
        "reasoning_content": "which earlier assistant messages bring their thinking along",
        "think_tags": "take <think>…</think> at the start of an answer for thinking",
        "system_role": "the role of the system prompt; user puts it into the first user message",
        "system_inline": "leave system messages in the midst of a conversation",
        "string_content": "send content that is only text as one string, not as parts",
        "null_content": 'send null, not "", as the content of a message that is only calls',
        "user_after_tool": "a user message may follow a tool message",
        "prefill": "how an assistant message at the end is marked for being continued",
        "cache_control": "keep the marks of prompt caching",
        "images": "send images; without it a note says that there was one",
        "pdf": "send PDF files; without it a note says that there was one",
        "tool_id_style": "ids of calls: as they are, cut to 40 characters, or Mistral's 9",
        "tool_choice_required": "the model may be made to call a tool, or a certain one",
        "parallel_tool_calls": "say so when only one call at a time is wanted",
        "thought_signature": "sign earlier calls with Gemini's stand-in for its signature",
        "schema": "which JSON schema of tool arguments it understands",
    }
)
"""Each switch in a few words."""
