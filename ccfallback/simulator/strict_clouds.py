"""What the strictest cloud refuses of a request, in the cloud's own words.

`rectify.platforms` says what is taken out before a request is sent. This is the other side of the
same facts: it judges what arrives, and names every fault.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ccfallback.messages.model_names import find_name

MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "bedrock": frozenset(
        {
            *("anthropic_version", "anthropic_beta", "max_tokens", "messages", "system"),
            *("stop_sequences", "temperature", "top_p", "top_k", "tools", "tool_choice"),
            *("thinking", "metadata", "output_config", "safeguards", "context_management"),
            *("compaction", "user_profile_id"),
        }
    ),
    "vertex": frozenset(
        {
            *("anthropic_version", "anthropic_beta", "max_tokens", "messages", "system", "stream"),
            *("stop_sequences", "temperature", "top_p", "top_k", "tools", "tool_choice"),
            *("thinking", "metadata", "output_config", "safeguards", "context_management"),
            *("compaction", "cache_control", "container", "speed"),
        }
    ),
    "mantle": frozenset(
        {
            *("model", "max_tokens", "messages", "system", "stream", "stop_sequences"),
            *("temperature", "top_p", "top_k", "tools", "tool_choice", "thinking", "metadata"),
            *("output_config", "safeguards", "context_management", "compaction", "service_tier"),
            *("user_profile_id", "cache_control", "speed"),
        }
    ),
}
"""The members of a body that each cloud knows."""

_EVERYWHERE: Final = (
    *("context-1m-2025-08-07", "context-management-2025-06-27", "compact-2026-01-12"),
    *("effort-2025-11-24", "fine-grained-tool-streaming-2025-05-14"),
    *("tool-search-tool-2025-10-19", "computer-use-2025-", "dangerous-tool-use-2026-09-03"),
    *("thinking-binding-controls-2026-08-01", "thinking-display-updates-2026-08-18"),
)
_NATIVE: Final = (
    *("claude-code-20250219", "interleaved-thinking-2025-05-14", "per-turn-control-2026-07-01"),
    *("structured-outputs-2025-11-13", "output-128k-2025-02-19", "web-search-2025-03-05"),
    *("token-efficient-tools-2025-02-19", "tool-examples-2025-10-29"),
)
_MID_CONVERSATION: Final = (
    "mid-conversation-output-config-2026-07-01",
    "mid-conversation-tool-changes-2026-07-01",
)
BETAS: Final[Mapping[str, tuple[str, ...]]] = {
    "bedrock": (*_EVERYWHERE, *_MID_CONVERSATION, "compact-2026-09-04"),
    "mantle": (*_EVERYWHERE, *_NATIVE),
    "vertex": (
        *(*_EVERYWHERE, *_NATIVE, *_MID_CONVERSATION, "compact-2026-09-04"),
        *("mid-conversation-system-clear-at-2026-08-21", "inline-tools-2026-09-15"),
        *("fallback-credit-", "task-budgets-2026-03-13", "afk-mode-2026-01-31"),
        *("model-context-window-exceeded-2025-08-26", "extended-cache-ttl-2025-04-11"),
        *("prompt-caching-scope-2026-01-05", "redact-thinking-2026-02-12"),
    ),
}
"""The beginnings of the flags that each cloud knows."""

_UNLOCKED: Final = (
    ("defer_loading", "tool-search-tool-"),
    ("tool_addition", "mid-conversation-tool-changes-"),
    ("tool_removal", "mid-conversation-tool-changes-"),
    ("context_management", "context-management-|compact-2026-01-12"),
    ("compaction", "compact-2026-09-04"),
    ("input_examples", "tool-examples-"),
    ("clear_at", "mid-conversation-system-clear-at-"),
)
"""Names in a body that are only known with a flag."""

_RUNTIME: Final = frozenset({"bedrock"})
_SEARCH: Final = frozenset({"vertex"})
"""The platforms whose models can search the web."""
_KNOWS_EFFORT: Final = frozenset({"mantle"})

_EXTRA: Final = "Extra inputs are not permitted"
_SERVER_TOOLS: Final = ("web_search", "web_fetch", "code_execution", "advisor", "mcp_toolset")


def faults(
    platform: str, model: str, body: Mapping[str, Any], betas: Sequence[str] = ()
) -> Iterator[str]:
    """Everything that a cloud refuses in a request for a model, which names the cloud's own id."""
    for name in body:
        if name not in MEMBERS[platform]:
            yield f"{name}: {_EXTRA}"
    for beta in betas:
        if not beta.startswith(BETAS[platform]):
            yield f"invalid beta flag: {beta}"
    for path, name in _names(body):
        for field, prefixes in _UNLOCKED:
            if name == field and not any(
                beta.startswith(tuple(prefixes.split("|"))) for beta in betas
            ):
                yield f"{path}: {_EXTRA}"
    yield from _field_faults(platform, model, body)


def _field_faults(platform: str, model: str, body: Mapping[str, Any]) -> Iterator[str]:
    known = find_name(model)
    family, version = ("", (9, 9)) if known is None else (known.family, known.version)
    is_runtime = platform in _RUNTIME
    for path, mark in _marks(body):
        if "scope" in mark:
            yield f"{path}.cache_control.ephemeral.scope: {_EXTRA}"
        if "ttl" in mark and is_runtime and version < (4, 5):
            yield f"{path}.cache_control.ephemeral.ttl: {_EXTRA}"
    for index, tool in enumerate(body.get("tools") or ()):
        where = f"tools.{index}"
        if is_runtime and "eager_input_streaming" in tool:
            yield f"{where}.custom.eager_input_streaming: {_EXTRA}"
        if "allowed_callers" in tool:
            yield f"{where}.custom.allowed_callers: {_EXTRA}"
        kind = tool.get("type", "custom")
        if kind.startswith(_SERVER_TOOLS) and not (
            platform in _SEARCH and kind.startswith("web_s")
        ):
            yield f"{where}: Input tag '{kind}' found using 'type' does not match"
        if kind == "custom" and tool.get("input_schema", {}).get("type") != "object":
            yield f"{where}.custom.input_schema.type: Field required"
    for index, message in enumerate(body.get("messages") or ()):
        if message.get("role") == "system" and is_runtime:
            least = {"opus": (4, 8), "sonnet": (5, 5), "haiku": (5, 5)}.get(family, (0, 0))
            if version < least:
                yield f"messages.{index}.role: Input should be 'user' or 'assistant'"
        if "output_config" in message and is_runtime:
            yield f"messages.{index}.output_config: {_EXTRA}"
        yield from _source_faults(f"messages.{index}", message.get("content"))
        yield from _server_faults(platform, f"messages.{index}", message.get("content"))
    if "x-anthropic-billing-header:" in str(body.get("system", "")):
        yield "system: x-anthropic-billing-header is a reserved keyword"
    knows_effort = platform in _KNOWS_EFFORT or family != "haiku" or version >= (5, 0)
    if "effort" in (body.get("output_config") or {}) and not knows_effort:
        yield f"output_config.effort: {_EXTRA}"
    management = body.get("context_management")
    if is_runtime and isinstance(management, Mapping):
        if "compaction" in body:
            yield "context_management: cannot be used with compaction"
        for index, edit in enumerate(management.get("edits") or ()):
            kind = edit.get("type", "")
            if kind not in ("clear_tool_uses_20250919", "compact_20260112"):
                yield (
                    f"context_management.edits.{index}: Input tag '{kind}' found using 'type'"
                    " does not match any of the expected tags"
                )


def _server_faults(platform: str, path: str, content: Any) -> Iterator[str]:
    """Calls and results of tools that the cloud does not run, and citations of such results."""
    for index, block in enumerate(content if isinstance(content, list) else ()):
        kind, name = block.get("type", ""), block.get("name", "")
        is_search = name == "web_search" or kind == "web_search_tool_result"
        is_result = kind.endswith("_tool_result") and not kind.startswith("tool_search")
        is_call = kind in ("server_tool_use", "mcp_tool_use") and "tool_search" not in name
        if (is_call or is_result) and not (is_search and platform in _SEARCH):
            yield f"{path}.content.{index}: Input tag '{kind}' found using 'type' does not match"
        for citation in block.get("citations") or ():
            cited = citation.get("type", "")
            if cited == "web_search_result_location" and platform not in _SEARCH:
                yield f"{path}.content.{index}.citations: Input tag '{cited}' does not match"


def _source_faults(path: str, content: Any) -> Iterator[str]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        where = f"{path}.content.{index}"
        source = block.get("source")
        if isinstance(source, Mapping) and source.get("type") in ("url", "file"):
            yield (
                f"{where}.{block['type']}.source: Input tag '{source['type']}' found using 'type'"
                " does not match any of the expected tags: 'base64'"
            )
        yield from _source_faults(where, block.get("content"))


_OPAQUE: Final = frozenset({"input", "input_schema", "properties", "text", "source"})
"""Members whose inside is content."""


def _names(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every name of a member and every type of a block, with its path."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            yield where, name
            if name == "type" and isinstance(inner, str):
                yield path, inner
            elif name not in _OPAQUE:
                yield from _names(inner, where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _names(item, f"{path}.{index}")


def _marks(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        mark = value.get("cache_control")
        if isinstance(mark, Mapping):
            yield path, mark
        for name, inner in value.items():
            if name not in _OPAQUE:
                yield from _marks(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marks(item, f"{path}.{index}")
