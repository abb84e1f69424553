"""Quirks: what providers of the OpenAI format do differently, as options of one provider.

A user sets them as keys of a `[[providers]]` table, and presets bring their own. The defaults suit
an unknown provider: they request nothing that some providers refuse.
"""

from collections.abc import Mapping
from typing import Any, Final

from ccfallback.config.checks import boolean, choice, integer, table
from ccfallback.config.options import Options, option
from ccfallback.messages.effort import EFFORTS

_TOKEN_FIELDS: Final = ("max_tokens", "max_completion_tokens", "auto")
_REASONING: Final = ("none", "effort", "openrouter", "thinking", "enable_thinking")


class Quirks(Options, frozen=True, kw_only=True):
    """The switches; each row says what its switch means."""

    max_output_tokens: int | None = option(
        integer(1, 1 << 31), None, "the most tokens that an answer may have"
    )
    max_tokens_field: str = option(
        choice(_TOKEN_FIELDS), "max_tokens", "the name of that limit; auto chooses by the model"
    )
    sampling: bool = option(boolean, True, "send temperature and top_p")
    top_k: bool = option(boolean, False, "send top_k")
    stop_limit: int = option(integer(0, 64), 4, "how many stop sequences may be sent; 0 sends none")
    stream_usage: bool = option(boolean, True, "request the token count at the end of a stream")
    user_field: bool = option(boolean, True, "send the pseudonym of the user")
    response_format: str = option(
        choice(("json_schema", "json_object", "prompt")),
        "json_schema",
        "how JSON of a given schema is requested; prompt does it in words",
    )
    strict_schema: bool = option(boolean, True, "ask for `strict` where a schema fits it")
    extra_body: Mapping[str, Any] = option(table, {}, "a table of more members for every request")

    reasoning: str = option(choice(_REASONING), "none", "how thinking is requested")
    max_effort: str = option(choice(EFFORTS), "high", "the highest effort that the provider knows")
    reasoning_content: str = option(
        choice(("drop", "calls", "all")),
        "drop",
        "which earlier assistant messages keep their thinking",
    )
    think_tags: bool = option(
        boolean, True, "read <think>…</think> at the start of an answer as thinking"
    )
    think_start: bool = option(
        boolean, False, "answers begin inside thinking, of which only the end is marked: </think>"
    )

    system_role: str = option(
        choice(("system", "developer", "user")),
        "system",
        "the role of the system prompt; user puts it into the first user message",
    )
    system_inline: bool = option(
        boolean, False, "keep system messages in the middle of a conversation"
    )
    string_content: bool = option(
        boolean, True, "send content that is only text as one string, not as parts"
    )
    null_content: bool = option(
        boolean, True, 'send null, not "", as the content of a message that has only calls'
    )
    user_after_tool: bool = option(boolean, True, "a user message may follow a tool message")
    prefill: str = option(
        choice(("plain", "prefix", "partial")),
        "plain",
        "how an assistant message at the end is marked for continuation",
    )
    cache_control: bool = option(boolean, False, "keep the marks of prompt caching")
    images: bool = option(boolean, True, "send images; otherwise a note replaces each")
    pdf: bool = option(boolean, False, "send PDF files; otherwise a note replaces each")
    pdf_url: bool = option(boolean, False, "send the URL of a PDF; otherwise a note replaces it")

    tool_id_style: str = option(
        choice(("keep", "short", "mistral")),
        "short",
        "ids of calls: unchanged, cut to 40 characters, or Mistral's 9",
    )
    tool_choice_required: bool = option(
        boolean, True, "the model can be forced to call a tool, or a certain one"
    )
    parallel_tool_calls: bool = option(
        boolean, True, "send parallel_tool_calls when only one call at a time is allowed"
    )
    thought_signature: bool = option(
        boolean,
        False,
        "sign earlier calls with Gemini's signature, or with a placeholder for it",
    )
    schema: str = option(
        choice(("openai", "gemini", "kimi")),
        "openai",
        "which JSON schema of tool arguments it understands",
    )
