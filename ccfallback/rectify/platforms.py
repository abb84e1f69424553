"""What the platforms that offer Claude refuse of a first-party request, as tables.

A platform's API is nearly the first party's, but it answers 400 to a field or a beta flag that it
does not know. What is known to be refused is taken out before a request is sent. A refusal that no
table knows is repaired and learned like any other provider's.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from ccfallback.messages.body import Body
from ccfallback.messages.edit import ANY
from ccfallback.messages.model_names import ClaudeName, Version, find_name
from ccfallback.messages.tools import only_server_tools
from ccfallback.messages.turns import kind_of
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.rectify import prevent
from ccfallback.rectify.betas import is_used, with_betas, without_idle_betas
from ccfallback.rectify.fields import KEPT
from ccfallback.rectify.rule import unknown_field

Platforms = frozenset[str]

BEDROCK: Final[Platforms] = frozenset({"bedrock"})
"""Bedrock's runtime, InvokeModel."""
MANTLE: Final[Platforms] = frozenset({"mantle"})
"""Bedrock's endpoint of the Messages API."""
VERTEX: Final[Platforms] = frozenset({"vertex"})
FOUNDRY: Final[Platforms] = frozenset({"foundry"})

_CLOUDS: Final = BEDROCK | MANTLE | VERTEX
PLATFORMS: Final = _CLOUDS | FOUNDRY
"""Claude Platform on AWS and Claude on Google Cloud are run by Anthropic and refuse nothing."""

# --- Members of the body ---

MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "bedrock": frozenset(
        {
            *("model", "messages", "system", "max_tokens", "stream", "stop_sequences"),
            *("temperature", "top_p", "top_k", "tools", "tool_choice", "thinking", "metadata"),
            *("output_config", "context_management", "compaction", "safeguards"),
        }
    ),
}
"""The only members of a body that a platform takes; a platform without a row takes nearly all."""

# --- Beta flags ---

BETAS: Final[Mapping[str, Platforms]] = {
    "claude-code-20250219": MANTLE | VERTEX,
    # Models from 4.6 on interleave thinking without it.
    "interleaved-thinking-2025-05-14": MANTLE | VERTEX,
    "context-1m-2025-08-07": _CLOUDS,
    "context-management-2025-06-27": _CLOUDS,
    "compact-2026-01-12": _CLOUDS,
    "compact-2026-09-04": BEDROCK | VERTEX,
    "effort-2025-11-24": _CLOUDS,
    "fine-grained-tool-streaming-2025-05-14": _CLOUDS,
    "tool-search-tool-2025-10-19": _CLOUDS,
    "tool-examples-2025-10-29": MANTLE | VERTEX,
    "computer-use-2025-": _CLOUDS,
    "dangerous-tool-use-2026-09-03": _CLOUDS,
    "thinking-binding-controls-2026-08-01": _CLOUDS,
    "thinking-display-updates-2026-08-18": _CLOUDS,
    "mid-conversation-output-config-2026-07-01": BEDROCK | VERTEX,
    "mid-conversation-tool-changes-2026-07-01": BEDROCK | VERTEX,
    "mid-conversation-system-clear-at-2026-08-21": VERTEX,
    "inline-tools-2026-09-15": VERTEX,
    "fallback-credit-": VERTEX,
    "task-budgets-2026-03-13": VERTEX,
    "afk-mode-2026-01-31": VERTEX,
    "model-context-window-exceeded-2025-08-26": VERTEX,
    "per-turn-control-2026-07-01": MANTLE | VERTEX,
    "structured-outputs-2025-11-13": MANTLE | VERTEX,
    "output-128k-2025-02-19": MANTLE | VERTEX,
    "token-efficient-tools-2025-02-19": MANTLE | VERTEX,
    "web-search-2025-03-05": MANTLE | VERTEX,
    "extended-cache-ttl-2025-04-11": VERTEX,
    "prompt-caching-scope-2026-01-05": VERTEX,
    "redact-thinking-2026-02-12": VERTEX,
}
"""The platforms that take a beta flag; a name that ends with `-` is the beginning of several.

None of the three clouds takes a flag that is not listed: they learn of new flags last.
"""

KEEPS_BETAS: Final = FOUNDRY
"""Platforms that take nearly every flag of the first party."""

REFUSED_BETAS: Final[Mapping[str, tuple[str, ...]]] = {"foundry": ("advisor-tool-", "oauth-")}
"""The flags that they do not take, by their beginnings."""

NEEDLESS: Final = ("extended-cache-ttl-", "mid-conversation-system-2")
"""The beginnings of flags without which the clouds know the fields all the same."""

RENAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "advanced-tool-use-2025-11-20": ("tool-search-tool-2025-10-19", "tool-examples-2025-10-29"),
}
"""Flags that the three clouds know by other names, one for each part of what the flag unlocks."""

# --- Fields and values ---


class Refused(msgspec.Struct, frozen=True):
    """One thing that platforms refuse, in words for which a rectifier makes the repair."""

    rectifier: str
    text: str
    platforms: Platforms
    families: frozenset[str] = frozenset()
    """The families of models that it is about; all if there are none."""
    before: Version | None = None
    """The first version that takes it; `None` if none does."""

    def concerns(self, name: ClaudeName | None) -> bool:
        """Whether it is about a model. Of a model whose name says nothing, little is known."""
        if not self.families and self.before is None:
            return True
        if name is None or (self.families and name.family not in self.families):
            return False
        return self.before is None or name.version < self.before

    @property
    def lesson(self) -> LearnedRejection:
        """It as a rejection that was learned."""
        return LearnedRejection(self.rectifier, "", self.text, 0.0)


_OPUS: Final = frozenset({"opus"})
_SONNET_AND_HAIKU: Final = frozenset({"sonnet", "haiku"})
_NO_SYSTEM: Final = "messages.*.role: Input should be 'user' or 'assistant'"
SERVER_TOOLS: Final = ("web_search", "web_fetch", "code_execution", "advisor", "mcp_toolset")
MISSING_TOOLS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("bedrock", "mantle"), SERVER_TOOLS),
    "vertex": tuple(kind for kind in SERVER_TOOLS if kind != "web_search"),
}
"""The server tools that a platform does not run, by the beginnings of their types."""


def _no_server_tools(platform: str) -> str:
    return f"server tools {', '.join(MISSING_TOOLS[platform])} are not supported"


REFUSED: Final = (
    Refused("cache_control", unknown_field(("cache_control", "ephemeral", "scope")), PLATFORMS),
    Refused(
        "cache_control",
        unknown_field(("cache_control", "ephemeral", "ttl")),
        BEDROCK,
        before=(4, 5),
    ),
    Refused("output_config", "output_format: use output_config.format instead", PLATFORMS),
    Refused(
        "output_config",
        unknown_field(("output_config", "effort")),
        BEDROCK | VERTEX,
        frozenset({"haiku"}),
        (5, 0),
    ),
    Refused(
        "context_management",
        "Input tag 'clear_thinking' found using 'type' does not match any of the expected tags",
        BEDROCK,
    ),
    Refused("context_management", "context_management cannot be used with compaction", BEDROCK),
    Refused("tool_fields", unknown_field(("tools", ANY, "eager_input_streaming")), BEDROCK),
    Refused("tool_fields", unknown_field(("tools", ANY, "allowed_callers")), _CLOUDS),
    Refused("tool_fields", unknown_field(("tools", ANY, "input_examples")), BEDROCK),
    Refused("server_tools", _no_server_tools("bedrock"), BEDROCK | MANTLE),
    Refused("server_tools", _no_server_tools("vertex"), VERTEX),
    Refused("extra_fields", unknown_field(("service_tier",)), VERTEX),
    Refused("extra_fields", unknown_field(("tags",)), MANTLE | VERTEX),
    Refused("media", "image and document sources by url are not supported", _CLOUDS),
    Refused("system_role", _NO_SYSTEM, BEDROCK, _OPUS, (4, 8)),
    Refused("system_role", _NO_SYSTEM, BEDROCK, _SONNET_AND_HAIKU, (5, 5)),
    Refused("billing_text", "x-anthropic-billing-header is a reserved keyword", PLATFORMS),
)


def apply(draft: RequestDraft, platform: str, model: str) -> RequestDraft:
    """The draft without what a platform refuses for a model; the same draft if that is nothing.

    `model` is the platform's own name of the model.
    """
    if platform not in PLATFORMS:
        return draft
    draft = _with_known_members(_with_known_betas(draft, platform), platform)
    name = find_name(model)
    rows = (row for row in REFUSED if platform in row.platforms and row.concerns(name))
    return prevent(draft, [row.lesson for row in rows])[0]


def runs_no_tool(platform: str, body: Body) -> bool:
    """Whether a request asks for nothing but server tools, and a platform runs none of them."""
    kinds = MISSING_TOOLS.get(platform)
    if kinds is None or kind_of(body.get("tool_choice")) == "none":
        return False
    tools = only_server_tools(body)
    return bool(tools) and all(kind_of(tool).startswith(kinds) for tool in tools)


def takes_beta(platform: str, beta: str) -> bool:
    """Whether a platform takes a beta flag."""
    if platform in KEEPS_BETAS:
        return not beta.startswith(REFUSED_BETAS.get(platform, ()))
    return any(
        platform in platforms and (beta == name or (name.endswith("-") and beta.startswith(name)))
        for name, platforms in BETAS.items()
    )


def _with_known_betas(draft: RequestDraft, platform: str) -> RequestDraft:
    """The draft with the flags that a platform takes, under its names for them."""
    kept: list[str] = []
    for beta in draft.betas:
        names = () if platform in KEEPS_BETAS else RENAMED.get(beta, ())
        kept += [name for name in names if is_used(name, draft.body)] if names else [beta]
    taken = tuple(beta for beta in dict.fromkeys(kept) if takes_beta(platform, beta))
    if taken == draft.betas:
        return draft
    needed = tuple(beta for beta in draft.betas if not beta.startswith(NEEDLESS))
    return with_betas(replace(draft, betas=needed), taken)[0]


def _with_known_members(draft: RequestDraft, platform: str) -> RequestDraft:
    known = MEMBERS.get(platform)
    if known is None:
        return draft
    unknown = [name for name in draft.body.names if name not in known and name not in KEPT]
    if not unknown:
        return draft
    return without_idle_betas(draft, draft.with_body(draft.body.without(*unknown)))
