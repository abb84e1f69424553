"""What the flags of `anthropic-beta` unlock: a field goes together with its flag, and a flag
with its fields. Either without the other is refused, or means nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.deferred_tools import has_deferred, loaded
from ccfallback.rectify.inline_system import (
    folded,
    has_efforts,
    has_system,
    has_tool_changes,
    with_efforts_on_top,
    with_tool_changes_made,
)
from ccfallback.rectify.parts import ANY, Path, has, without, without_all


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of a body that a flag unlocks."""

    name: str
    members: frozenset[str]
    """Where in a body it may be."""
    present: Callable[[Body], bool]
    remove: Callable[[Body], Body]


def _field(*paths: Path) -> Feature:
    return Feature(
        name=".".join(step for step in paths[0] if step != ANY),
        members=frozenset(path[0] for path in paths),
        present=lambda body: any(has(body, path) for path in paths),
        remove=lambda body: without_all(body, paths)[0],
    )


def _kept(*paths: Path) -> Feature:
    """A field that the answer is read by: without its flag it may be refused, but not go."""
    feature = _field(*paths)
    return replace(feature, remove=lambda body: body)


_BLOCK: Final = ("messages", ANY, "content", ANY)
_CACHED: Final[tuple[Path, ...]] = (
    (),
    ("system", ANY),
    ("tools", ANY),
    _BLOCK,
    (*_BLOCK, "content", ANY),
)


def cache_marks(leaf: Path) -> tuple[Path, ...]:
    """Where in a body a mark of prompt caching, or a part of one, may be."""
    return tuple((*place, "cache_control", *leaf) for place in _CACHED)


def _updates_shown(body: Body) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("display") == "updates"


def _without_updates(body: Body) -> Body:
    return without(body, ("thinking", "display"))[0] if _updates_shown(body) else body


_MESSAGES: Final = frozenset({"messages"})
_MESSAGES_AND_TOOLS: Final = frozenset({"messages", "tools"})
_CONTEXT: Final = _field(("context_management",))
_TOOL_CHANGES: Final = Feature(
    "tool_changes", _MESSAGES_AND_TOOLS, has_tool_changes, with_tool_changes_made
)
_DEFERRED: Final = Feature("defer_loading", _MESSAGES_AND_TOOLS, has_deferred, loaded)
_SYSTEM: Final = Feature("system messages", _MESSAGES, has_system, folded)
_EFFORTS: Final = Feature("messages.output_config", _MESSAGES, has_efforts, with_efforts_on_top)
_UPDATES: Final = Feature("display", frozenset({"thinking"}), _updates_shown, _without_updates)
_BLOCK_BINDING: Final = _field(("thinking", "block_binding"))
_CLEAR_AT: Final = _field(("messages", ANY, "clear_at"))

UNLOCKED: Final[tuple[tuple[str, tuple[Feature, ...]], ...]] = (
    ("context-management-", (_CONTEXT,)),
    ("compact-2026-01-12", (_CONTEXT,)),
    ("compact-2026-09-04", (_kept(("compaction",)),)),
    ("effort-", (_field(("output_config", "effort")),)),
    ("structured-outputs-", (_kept(("output_config", "format"), ("output_format",)),)),
    ("task-budgets-", (_field(("output_config", "task_budget")),)),
    (
        "advanced-tool-use-",
        (
            _DEFERRED,
            _field(("tools", ANY, "input_examples")),
            _field(("tools", ANY, "allowed_callers")),
        ),
    ),
    ("fine-grained-tool-streaming-", (_field(("tools", ANY, "eager_input_streaming")),)),
    ("per-turn-control-", (_EFFORTS,)),
    ("mid-conversation-system-clear-at-", (_CLEAR_AT,)),
    ("mid-conversation-system-", (_SYSTEM,)),
    ("mid-conversation-tool-changes-", (_TOOL_CHANGES,)),
    ("inline-tools-", (_TOOL_CHANGES,)),
    ("fast-mode-", (_field(("speed",)),)),
    ("mcp-client-", (_field(("mcp_servers",)),)),
    ("server-side-fallback-", (_field(("fallbacks",)),)),
    ("fallback-credit-", (_field(("fallback_credit_token",)),)),
    ("message-threads-", (_kept(("thread",)),)),
    ("cache-diagnosis-", (_field(("diagnostics",)),)),
    ("thinking-binding-controls-", (_BLOCK_BINDING,)),
    ("thinking-display-updates-", (_UPDATES,)),
    ("extended-cache-ttl-", (_field(*cache_marks(("ttl",))),)),
    ("prompt-caching-scope-", (_field(*cache_marks(("scope",))),)),
)
"""By the beginning of a flag's name, the first that fits; any other flag unlocks no field."""


def settled(draft: RequestDraft, body: Body) -> RequestDraft:
    """The draft with a body from which fields were taken, without the flags that were theirs."""
    changed = draft.body.differs(body)
    betas = tuple(beta for beta in draft.betas if not _is_idle(beta, draft.body, body, changed))
    return replace(draft, body=body, betas=betas)


def without_betas(draft: RequestDraft, betas: frozenset[str]) -> tuple[RequestDraft, list[str]]:
    """The draft without these flags and the fields that they alone unlock, and which those were."""
    kept = tuple(beta for beta in draft.betas if beta not in betas)
    still = {feature.name for beta in kept for feature in _features(beta)}
    body, gone = draft.body, []
    for feature in _all_features(draft.betas, betas):
        if feature.name not in still and feature.present(body):
            changed = feature.remove(body)
            if changed is not body:
                body = changed
                gone.append(feature.name)
    # A field may have been the only use of another flag, too.
    return settled(replace(draft, betas=kept), body), gone


def _all_features(betas: tuple[str, ...], named: frozenset[str]) -> Iterator[Feature]:
    for beta in betas:
        if beta in named:
            yield from _features(beta)


def _features(beta: str) -> tuple[Feature, ...]:
    return next((features for prefix, features in UNLOCKED if beta.startswith(prefix)), ())


def _is_idle(beta: str, before: Body, after: Body, changed: frozenset[str]) -> bool:
    features = _features(beta)
    # Where nothing was changed a feature is still what it was; the messages are long to look at.
    if all(changed.isdisjoint(feature.members) for feature in features):
        return False
    return any(feature.present(before) for feature in features) and not any(
        feature.present(after) for feature in features
    )
