"""Thinking: how a request asks for it, its blocks in the history, and what does not go with it.

Models differ by age: the older ones take budgets, the newer ones decide for themselves, and some
always think.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.edit import (
    ANY,
    BLOCK,
    Path,
    map_items,
    only,
    raw_with_content,
    raw_with_members,
    raw_with_more,
    without_all,
)
from ccfallback.messages.effort import (
    BUDGET_OF_EFFORT,
    LEAST_BUDGET,
    effort_for_budget,
    requested_effort,
    thinking_settings,
    with_effort,
    with_effort_among,
    without_effort,
)
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.thinking import without_thoughts
from ccfallback.messages.turns import (
    THOUGHTS,
    Block,
    content_list,
    kind_of,
    last_index,
    places,
    role_of,
    string,
    text_block,
)
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.fields import without_clearing
from ccfallback.rectify.rule import (
    Refusal,
    Repaired,
    Rule,
    describe,
    on_body,
    repaired,
    says,
    unknown_field,
)

_When = Callable[[RequestDraft], bool]


def _asks_for(*kinds: str) -> _When:
    """Whether the request asks for thinking in one of these ways."""
    return lambda draft: thinking_settings(draft.body).get("type") in kinds


def without_switch(body: Body) -> Body:
    """The body without `thinking`, and without what goes only with it."""
    return without_clearing(body.without("thinking"))


def is_in_tool_loop(body: Body) -> bool:
    """Whether the request brings the results of the last assistant message's calls."""
    last = last_index(body.messages, "assistant")
    return last >= 0 and any(
        kind_of(block) == "tool_result" and index > last
        for (index, _), block in places(body.messages)
    )


def lacks_thought(body: Body) -> bool:
    """Whether the request continues a turn that did not begin with thinking."""
    if not is_in_tool_loop(body):
        return False
    blocks = content_list(body.messages[last_index(body.messages, "assistant")])
    return not blocks or kind_of(blocks[0]) not in THOUGHTS


def with_budget(body: Body, budget: int) -> Body:
    """The body with a budget of thinking; without thinking if the answer has no room for it."""
    budget = min(budget, body.max_tokens - 1)
    if budget < LEAST_BUDGET:
        return without_switch(body)
    return body.with_members(
        thinking={**thinking_settings(body), "type": "enabled", "budget_tokens": budget}
    )


# --- Signatures and fields ---

_SIGNATURE: Final = "signature"


def _signed_kinds(refusal: Refusal) -> list[str]:
    """The types of block whose signature is unknown; `*` if the refusal does not say."""
    refused = [path for path in refusal.paths if path[-1] == _SIGNATURE]
    kinds = {path[-2] for path in refused if len(path) > 1} - {ANY}
    return sorted(kinds) or [ANY] * bool(refused)


def _without_signatures(draft: RequestDraft, kinds: list[str]) -> Repaired | None:
    """Remove the signatures of what needs none, and thinking, which is nothing without its own."""
    body, signatures, thoughts = draft.body, 0, 0
    if not THOUGHTS.issuperset(kinds):
        signed = {kind_of(block) for _, block in places(body.messages) if _SIGNATURE in block}
        unneeded = sorted(signed - THOUGHTS - {"compaction", ""})
        body, signatures = without_all(body, [(*BLOCK, kind, _SIGNATURE) for kind in unneeded])
    if kinds == [ANY] or not THOUGHTS.isdisjoint(kinds):
        body, thoughts = without_thoughts(body)
    paths: list[Path] = [(*BLOCK, kind, _SIGNATURE) for kind in kinds if kind != ANY]
    return repaired(
        draft,
        body,
        describe(signatures, "signature", "removed"),
        describe(thoughts, "thinking block", "removed"),
        lesson=unknown_field(*(paths or [(_SIGNATURE,)])),
    )


_FIELDS: Final = ("display", "block_binding")
_FIELD: Final = lazy_re(
    r"\bthinking\.(?:\w+\.)?(?P<member>display|block_binding)(?:\.\w+)*:"
    r" (?:input should be|\w+ input)"
    r"|\bthinking\.(?:\w+\.)?(?P<other>display|block_binding)\b.{0,20} not supported"
)


def _refused_fields(refusal: Refusal) -> list[str]:
    refused = [step for path in refusal.paths for step in path]
    refused += [match["member"] or match["other"] for match in _FIELD.finditer(refusal.text)]
    return [name for name in _FIELDS if name in refused]


def _without_fields(draft: RequestDraft, names: list[str]) -> Repaired | None:
    paths = [("thinking", name) for name in names]
    body, _ = without_all(draft.body, paths)
    changed = f"{', '.join(names)} removed from thinking"
    return repaired(draft, body, changed, lesson=unknown_field(*paths))


# --- Blocks of the history ---

_OFF: Final = "thinking switched off"


def _describe_removed(count: int, where: str = "the history") -> str:
    return describe(count, "thinking block", f"removed from {where}")


def _without_history(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove all thinking: a changed history makes signed thinking invalid for good, and only a
    history without any is accepted."""
    body, count = without_thoughts(draft.body)
    return repaired(draft, body, _describe_removed(count))


def _without_unsigned(draft: RequestDraft, _found: object) -> Repaired | None:
    def is_unsigned(_index: int, block: Block) -> bool:
        return kind_of(block) == "thinking" and not block.get(_SIGNATURE)

    return _maybe_off(draft, *without_thoughts(draft.body, is_unsigned))


def _without_foreign(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove all thinking. The refusal counts the blocks of what was sent, and the draft may have
    more, so it does not tell which block is foreign; a foreign block seldom comes alone anyway."""
    return _maybe_off(draft, *without_thoughts(draft.body))


def _maybe_off(draft: RequestDraft, body: Body, count: int) -> Repaired | None:
    """The repair with this body. A turn that continues must have begun with thinking, so the
    model must not think if it did not."""
    is_off = (
        count > 0 and thinking_settings(body).get("type") == "enabled" and is_in_tool_loop(body)
    )
    body = without_switch(body) if is_off else body
    return repaired(draft, body, _describe_removed(count), _OFF if is_off else "")


def _without_any(draft: RequestDraft, _found: object) -> Repaired | None:
    """Switch thinking off and remove it from the history."""
    body, count = without_thoughts(draft.body)
    is_on = "thinking" in body
    return repaired(draft, without_switch(body), _describe_removed(count), _OFF if is_on else "")


def _without_latest(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove the thinking of the last assistant message."""
    last = last_index(draft.body.messages, "assistant")
    body, count = without_thoughts(draft.body, lambda index, _block: index == last)
    return repaired(draft, body, _describe_removed(count, "the last assistant message"))


def _without_changed(draft: RequestDraft, found: object) -> Repaired | None:
    """Remove changed thinking; without it the model must not think with a budget."""
    made = _without_latest(draft, found)
    if made is None or not _asks_for("enabled")(draft):
        return made
    return repaired(draft, without_switch(made.draft.body), made.changed, _OFF)


wants_thoughts: Final = says(
    r"\b(?:reasoning_content|content\[\]\.thinking)\b.{0,60}"
    r"(?:must be passed back|is missing|is required|field required)",
    r"missing reasoning_content field in the assistant message",
)
"""A match for refusals that want the thinking of earlier assistant messages back."""
THOUGHTS_WANTED: Final = "reasoning_content in the thinking mode must be passed back"
"""The lesson of such a refusal."""

_THOUGHT: Final = {"type": "thinking", "thinking": "(omitted)", "signature": "omitted"}
"""Thinking of which the text is lost. Some providers ignore one that is empty or only space."""


def _with_thoughts(body: Body) -> Body:
    """Mark each assistant message without thinking as having had some: the provider wants the
    thinking back with every one."""

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
        content = message.get("content") if role_of(message) == "assistant" else None
        if isinstance(content, str) and content:
            return raw_with_members(raw, content=[_THOUGHT, text_block(content)])
        blocks = content if isinstance(content, list) else []
        thoughts = [kind_of(block) == "thinking" for block in blocks]
        if not blocks or any(
            is_thought and string(block, "thinking").strip()
            for is_thought, block in zip(thoughts, blocks, strict=True)
        ):
            return raw
        spoken = only([not is_thought for is_thought in thoughts])
        return raw_with_content(raw, lambda raws: [_THOUGHT, *spoken(raws)])

    return map_items(body, "messages", change)


# --- Budgets ---

_GOOD_BUDGET: Final = 32000
"""Tokens that replace a budget which is too small: the client's own default."""

_BUDGET: Final = r"(?:budget_tokens|thinking_?budget|thinking budget)"


def _budget(draft: RequestDraft) -> int:
    """The budget of thinking; zero if there is none."""
    thinking = thinking_settings(draft.body)
    budget = thinking.get("budget_tokens") if thinking.get("type") == "enabled" else 0
    return budget if isinstance(budget, int) else 0


def _has_budget(draft: RequestDraft) -> bool:
    budget = thinking_settings(draft.body).get("budget_tokens")
    return isinstance(budget, int) and _asks_for("enabled")(draft)


def _set_budget(draft: RequestDraft, wanted: int, lesson: str) -> Repaired | None:
    body = with_budget(draft.body, wanted)
    now = thinking_settings(body).get("budget_tokens")
    changed = f"thinking budget {_budget(draft)} changed to {now}" if now else _OFF
    return repaired(draft, body, changed, lesson=lesson)


def _raise_budget(draft: RequestDraft, _found: object) -> Repaired | None:
    lesson = f"budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}"
    return _set_budget(draft, _GOOD_BUDGET, lesson)


def _below_answer(draft: RequestDraft, _found: object) -> Repaired | None:
    lesson = "max_tokens must be greater than thinking.budget_tokens"
    return _set_budget(draft, draft.body.max_tokens - 1, lesson)


def _lower_budget(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    most = int(found["most"])
    lesson = f"budget_tokens: Input should be less than or equal to {most}"
    return _set_budget(draft, most, lesson) if _budget(draft) > most else None


# --- Ways of asking for thinking ---

_TYPE: Final = r"thinking(?:\.type)?[.:= ]{1,2}"
_NOT: Final = r"\b.{0,20}(?:not supported|unsupported|not allowed)"
_FREE: Final = r"(?:adaptive|between_tools)"
_KNOWN_KINDS: Final = lazy_re(r"expected (?:tags?|one of)?:? ?(?P<kinds>.{0,80})")
_ADAPTIVE: Final = says(
    rf"\b{_FREE} thinking (?:is )?not supported|not support {_FREE} thinking",
    rf"{_TYPE}{_FREE}{_NOT}|\binput tag {_FREE} found|\bunknown variant {_FREE}\b",
    rf"thinking\.type: input should be enabled\b|invalid thinking type:? {_FREE}",
)


def _to_adaptive(draft: RequestDraft, _found: object) -> Repaired | None:
    """A budget becomes an effort, if that is lower than `high`, which is the default. It is not
    known whether the model has a higher one."""
    thinking = dict(thinking_settings(draft.body))
    budget = thinking.pop("budget_tokens", None)
    effort = effort_for_budget(budget) if isinstance(budget, int) else ""
    body = draft.body.with_members(thinking={**thinking, "type": "adaptive"})
    if effort in ("low", "medium") and not requested_effort(body):
        body = with_effort(body, effort)
    return repaired(draft, body, "thinking changed from enabled to adaptive")


def _refused_adaptive(refusal: Refusal) -> str:
    """What the refusal says of the ways that the model knows."""
    if not _ADAPTIVE(refusal):
        return ""
    known = _KNOWN_KINDS.search(refusal.text)
    return known["kinds"] if known and known["kinds"] else "enabled"


def _to_budget(draft: RequestDraft, known: str) -> Repaired | None:
    """An effort becomes a budget, unless the model has none, or the turn began without thinking."""
    lesson = "adaptive thinking is not supported on this model"
    if "enabled" not in known:
        body, lesson = without_switch(draft.body), f"{lesson}, expected tags: disabled"
    elif forces_tool(draft) or lacks_thought(draft.body):
        body = without_switch(draft.body)
    else:
        budget = BUDGET_OF_EFFORT.get(requested_effort(draft.body), BUDGET_OF_EFFORT["high"])
        body = with_budget(draft.body, budget)
    return repaired(draft, body, "adaptive thinking replaced", lesson=lesson)


# --- Forced tools ---


def forces_tool(draft: RequestDraft) -> bool:
    """Whether the answer has to be a call."""
    return kind_of(draft.body.get("tool_choice")) in ("any", "tool")


_FORCING: Final = "thinking may not be enabled when tool_choice forces tool use"
_CONFLICT: Final = r"(?:incompatible|not (?:compatible|supported?|allowed)|cannot|conflict)"
_CONFLICTS: Final = (
    rf"\btool_choice\b.{{0,80}}{_CONFLICT}.{{0,60}}\bthinking",
    rf"\bthinking\b.{{0,60}}{_CONFLICT}.{{0,60}}\btool_choice\b",
)
_NO_FORCE: Final = "tool_choice: type tool and any are not supported for this model"


def _no_thinking(draft: RequestDraft, _found: object) -> Repaired | None:
    if thinking_settings(draft.body).get("type") in (None, "disabled"):
        return None
    return repaired(draft, without_switch(draft.body), _OFF)


def _disable_thinking(draft: RequestDraft, _found: object) -> Repaired | None:
    """Say that the model must not think: it does if nothing is said."""
    if thinking_settings(draft.body).get("type") == "disabled":
        return None
    body = without_clearing(draft.body.with_members(thinking={"type": "disabled"}))
    return repaired(draft, body, _OFF)


def _ask_for_call(draft: RequestDraft, _found: object) -> Repaired | None:
    """Let the model choose, and ask for the call in words in the user's last message."""
    choice = draft.body.get("tool_choice")
    name = string(choice, "name") if kind_of(choice) == "tool" else ""
    wanted = f"the {name} tool" if name else "one of the tools"
    free = {key: value for key, value in choice.items() if key != "name"}
    body = draft.body.with_members(tool_choice={**free, "type": "auto"})
    raws, last = body.items("messages"), last_index(body.messages, "user")
    if last >= 0:
        asking = [text_block(f"Now call {wanted}.")]
        changed = raw_with_more(body.messages[last], raws[last], asking)
        body = body.with_items("messages", [*raws[:last], changed, *raws[last + 1 :]])
    return repaired(draft, body, "tool_choice changed to auto")


FIELDS: Final[tuple[Rule[Any], ...]] = (
    Rule("signature_field", _signed_kinds, _without_signatures),
    Rule("thinking_fields", _refused_fields, _without_fields),
)

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "thinking_binding",
        says(r"bound to a different conversation|prefix_mismatch_behavior"),
        _without_history,
    ),
    Rule(
        "thinking_signature",
        says(r"\bsignature: (?:field|input) required|\bsignature\b field required"),
        _without_unsigned,
    ),
    Rule(
        "thinking_signature",
        says(
            r"signature in (?:a )?thinking block",
            r"\b(?:invalid|corrupted|bad) thought signature",
            r"thought signature\b.{0,60}(?:invalid|not valid|corrupt)",
            r"invalid data in redacted_thinking block",
            r"thinking\.signature: (?:invalid|input should be)",
        ),
        _without_foreign,
    ),
    Rule(
        "thinking_start",
        says(
            r"expected thinking or redacted_thinking,? but found",
            r"must start with a thinking block",
        ),
        _without_any,
    ),
    Rule("thinking_latest", says(r"thinking\b.{0,80}\bcannot be modified"), _without_changed),
    Rule(
        "thinking_latest",
        says(r"assistant message in the final position cannot contain (?:redacted_)?thinking"),
        _without_latest,
    ),
    Rule(
        "thinking_budget",
        says(
            rf"{_BUDGET}\b.{{0,40}}"
            r"(?:greater than or equal to 1024|>= ?1024|at least 1024|minimum.{0,9}1024)"
        ),
        _raise_budget,
        when=lambda draft: _has_budget(draft) and _budget(draft) < LEAST_BUDGET,
    ),
    Rule(
        "thinking_budget",
        says(
            r"max_tokens must be (?:greater|larger) than (?:thinking\.)?budget_tokens",
            r"budget_tokens must be (?:less|smaller) than max_tokens",
        ),
        _below_answer,
        when=lambda draft: _has_budget(draft) and _budget(draft) >= draft.body.max_tokens > 0,
    ),
    Rule(
        "thinking_budget",
        says(
            rf"{_BUDGET}\b.{{0,80}}(?:less than or equal to|<=|not (?:be )?greater than|at most"
            r"|between \d{1,9} and) ?(?P<most>\d{1,9})\b"
        ),
        _lower_budget,
        when=_has_budget,
    ),
    Rule(
        "thinking_mode",
        says(rf"{_TYPE}enabled{_NOT}|\binput tag enabled found"),
        _to_adaptive,
        "thinking.type.enabled is not supported for this model",
        when=_asks_for("enabled"),
    ),
    Rule(
        "thinking_mode", _refused_adaptive, _to_budget, when=_asks_for("adaptive", "between_tools")
    ),
    Rule(
        "thinking_mode",
        says(r"(?=.*\bdisabled\b)(?=.*\beffort\b).*\b(?:xhigh|max)\b"),
        on_body(
            lambda body: with_effort_among(body, ("low", "medium", "high")),
            "effort lowered to high",
        ),
        "thinking disabled does not go with effort xhigh or max",
        when=_asks_for("disabled"),
    ),
    Rule(
        "thinking_mode",
        says(r"cannot be disabled.{0,20}\b(?:reasoning_effort|output_config|effort)\b"),
        on_body(without_effort, "effort removed"),
        "thinking cannot be disabled when reasoning_effort is set",
        when=_asks_for("disabled"),
    ),
    Rule(
        "thinking_mode",
        says(rf"{_TYPE}disabled{_NOT}|\binput tag disabled found|\bthinking cannot be disabled"),
        on_body(lambda body: body.without("thinking"), "thinking no longer disabled"),
        "thinking.type.disabled is not supported for this model",
        when=_asks_for("disabled"),
    ),
    # Thinking is given up before the choice: a client that forces a tool needs its call.
    Rule("forced_tool", says(_FORCING), _no_thinking, _FORCING, when=forces_tool),
    Rule(
        "forced_tool",
        says(*_CONFLICTS),
        _disable_thinking,
        "tool_choice is incompatible with thinking",
        when=forces_tool,
    ),
    # The model thinks although nothing asks it to.
    Rule("forced_tool", says(_FORCING, *_CONFLICTS), _ask_for_call, _NO_FORCE, when=forces_tool),
    Rule(
        "forced_tool",
        says(
            r"\btool_choice\b.{0,60}(?:not supported|unsupported|only (?:supports? )?auto"
            r"|not support)",
            r"(?:unsupported (?:parameter|value)|does not support):? tool_choice\b",
        ),
        _ask_for_call,
        _NO_FORCE,
        when=forces_tool,
    ),
    Rule(
        "reasoning_content",
        wants_thoughts,
        on_body(_with_thoughts, "omitted thinking marked in assistant messages"),
        THOUGHTS_WANTED,
    ),
)
