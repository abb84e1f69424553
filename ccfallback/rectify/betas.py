"""What the flags of `anthropic-beta` unlock.

A field goes together with its flag, and a flag with its fields: either without the other is
refused, or means nothing.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from ccfallback.messages.body import Body
from ccfallback.messages.edit import ANY, BLOCK, Path, has, without, without_all
from ccfallback.messages.effort import (
    has_efforts_in_messages,
    thinking_settings,
    with_efforts_at_the_top,
)
from ccfallback.messages.system import (
    has_system_messages,
    has_tool_changes,
    with_tool_changes_made,
    without_system_messages,
)
from ccfallback.messages.tools import has_deferred, with_all_loaded
from ccfallback.policy.draft import RequestDraft


class Feature(msgspec.Struct, frozen=True):
    """A part of a body that a flag unlocks."""

    name: str
    members: frozenset[str]
    """The members of a body that may contain it."""
    is_present: Callable[[Body], bool]
    remove: Callable[[Body], Body]


def _field(*paths: Path) -> Feature:
    return Feature(
        name=".".join(step for step in paths[0] if step != ANY),
        members=frozenset(path[0] for path in paths),
        is_present=lambda body: any(has(body, path) for path in paths),
        remove=lambda body: without_all(body, paths)[0],
    )


def _needed_field(*paths: Path) -> Feature:
    """A field that the client needs to read the answer: it is never removed."""
    return replace(_field(*paths), remove=lambda body: body)


_MARKED: Final[tuple[Path, ...]] = ((), ("system", ANY), ("tools", ANY), BLOCK)


def cache_marks(*leaf: str) -> tuple[Path, ...]:
    """The paths of all marks of prompt caching, or of a part of them."""
    return tuple((*place, "cache_control", *leaf) for place in (*_MARKED, (*BLOCK, "content", ANY)))


def _shows_updates(body: Body) -> bool:
    return thinking_settings(body).get("display") == "updates"


def _without_updates(body: Body) -> Body:
    return without(body, ("thinking", "display"))[0] if _shows_updates(body) else body


_MESSAGES: Final = frozenset({"messages"})
_MESSAGES_AND_TOOLS: Final = frozenset({"messages", "tools"})
_CONTEXT: Final = _field(("context_management",))
_TOOL_CHANGES: Final = Feature(
    "tool_changes", _MESSAGES_AND_TOOLS, has_tool_changes, with_tool_changes_made
)
_DEFERRED: Final = Feature("defer_loading", _MESSAGES_AND_TOOLS, has_deferred, with_all_loaded)
_SYSTEM: Final = Feature("system messages", _MESSAGES, has_system_messages, without_system_messages)
_EFFORTS: Final = Feature(
    "messages.output_config", _MESSAGES, has_efforts_in_messages, with_efforts_at_the_top
)
_EXAMPLES: Final = _field(("tools", ANY, "input_examples"))
_UPDATES: Final = Feature("display", frozenset({"thinking"}), _shows_updates, _without_updates)

UNLOCKED: Final[tuple[tuple[str, tuple[Feature, ...]], ...]] = (
    ("context-management-", (_CONTEXT,)),
    ("compact-2026-01-12", (_CONTEXT,)),
    ("compact-2026-09-04", (_needed_field(("compaction",)),)),
    ("effort-", (_field(("output_config", "effort")),)),
    ("structured-outputs-", (_needed_field(("output_config", "format"), ("output_format",)),)),
    ("task-budgets-", (_field(("output_config", "task_budget")),)),
    (
        "advanced-tool-use-",
        (
            _DEFERRED,
            _EXAMPLES,
            _field(("tools", ANY, "allowed_callers")),
        ),
    ),
    ("tool-search-tool-", (_DEFERRED,)),
    ("tool-examples-", (_EXAMPLES,)),
    ("fine-grained-tool-streaming-", (_field(("tools", ANY, "eager_input_streaming")),)),
    ("per-turn-control-", (_EFFORTS,)),
    ("mid-conversation-system-clear-at-", (_field(("messages", ANY, "clear_at")),)),
    ("mid-conversation-system-", (_SYSTEM,)),
    ("mid-conversation-tool-changes-", (_TOOL_CHANGES,)),
    ("inline-tools-", (_TOOL_CHANGES,)),
    ("fast-mode-", (_field(("speed",)),)),
    ("mcp-client-", (_field(("mcp_servers",)),)),
    ("server-side-fallback-", (_field(("fallbacks",)),)),
    ("fallback-credit-", (_field(("fallback_credit_token",)),)),
    ("message-threads-", (_needed_field(("thread",)),)),
    ("cache-diagnosis-", (_field(("diagnostics",)),)),
    ("thinking-binding-controls-", (_field(("thinking", "block_binding")),)),
    ("thinking-display-updates-", (_UPDATES,)),
    ("extended-cache-ttl-", (_field(*cache_marks("ttl")),)),
    ("prompt-caching-scope-", (_field(*cache_marks("scope")),)),
)
"""By the beginning of a flag's name, the first that fits; any other flag unlocks no field."""


def without_idle_betas(before: RequestDraft, after: RequestDraft) -> RequestDraft:
    """The draft `after` without the flags whose fields are gone since `before`."""
    if after.body is before.body:
        return after
    changed = before.body.differs(after.body)
    betas = tuple(
        beta for beta in after.betas if not _is_idle(beta, before.body, after.body, changed)
    )
    return replace(after, betas=betas)


def without_betas(draft: RequestDraft, betas: frozenset[str]) -> tuple[RequestDraft, list[str]]:
    """The draft without these flags and without the fields that they alone unlock; and the names
    of those fields."""
    return with_betas(draft, tuple(beta for beta in draft.betas if beta not in betas))


def with_betas(draft: RequestDraft, kept: tuple[str, ...]) -> tuple[RequestDraft, list[str]]:
    """The draft with these flags in place of its own, and without the fields that only flags
    unlock which are gone; and the names of those fields."""
    still = {feature.name for beta in kept for feature in _features(beta)}
    body, gone = draft.body, []
    for feature in (each for beta in draft.betas if beta not in kept for each in _features(beta)):
        if feature.name not in still and feature.is_present(body):
            changed = feature.remove(body)
            if changed is not body:
                body = changed
                gone.append(feature.name)
    return replace(draft, body=body, betas=kept), gone


def is_used(beta: str, body: Body) -> bool:
    """Whether the body has a field that the flag unlocks."""
    return any(feature.is_present(body) for feature in _features(beta))


def _features(beta: str) -> tuple[Feature, ...]:
    return next((features for prefix, features in UNLOCKED if beta.startswith(prefix)), ())


def _is_idle(beta: str, before: Body, after: Body, changed: frozenset[str]) -> bool:
    features = _features(beta)
    # The messages are long to search: a feature whose members did not change is as it was.
    if all(changed.isdisjoint(feature.members) for feature in features):
        return False
    return any(feature.is_present(before) for feature in features) and not any(
        feature.is_present(after) for feature in features
    )
