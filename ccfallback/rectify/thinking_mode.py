"""Ways of asking for thinking that a model does not know: it is asked in the way that it does.

Models differ by age: the older ones take budgets, the newer ones think as they see fit, and some
can't be told not to.
"""

import re
from collections.abc import Callable
from typing import Final

from ccfallback.messages.effort import LEAST_BUDGET
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.efforts import effort_of, with_effort_among, without_effort
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import (
    BUDGETS,
    effort_for,
    forces_tool,
    lacks_thought,
    thinking_of,
    with_budget,
    without_switch,
)

_TYPE: Final = r"thinking(?:\.type)?[.:= ]{1,2}"
_NOT: Final = r"\b.{0,20}(?:not supported|unsupported|not allowed)"
_FREE: Final = r"(?:adaptive|between_tools)"

_ENABLED: Final = re.compile(rf"{_TYPE}enabled{_NOT}|\binput tag enabled found")
_ADAPTIVE: Final = re.compile(
    rf"\b{_FREE} thinking (?:is )?not supported|not support {_FREE} thinking"
    rf"|{_TYPE}{_FREE}{_NOT}|\binput tag {_FREE} found|\bunknown variant {_FREE}\b"
    rf"|thinking\.type: input should be enabled\b|invalid thinking type:? {_FREE}"
)
_KNOWN_KINDS: Final = re.compile(r"expected (?:tags?|one of)?:? ?(?P<kinds>.{0,80})")
_DISABLED: Final = re.compile(
    rf"{_TYPE}disabled{_NOT}|\binput tag disabled found|\bthinking cannot be disabled"
)
_DISABLED_BUT_HIGH: Final = re.compile(r"(?=.*\bdisabled\b)(?=.*\beffort\b).*\b(?:xhigh|max)\b")
_DISABLED_BUT_EFFORT: Final = re.compile(
    r"cannot be disabled.{0,20}\b(?:reasoning_effort|output_config|effort)\b"
)
_NOT_HIGHEST: Final = ("low", "medium", "high")


class _ThinkingMode:
    name = "thinking_mode"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Ask for it, or not, in words that the model takes."""
        kind = thinking_of(draft.body).get("type")
        for kinds, wording, repair, changed in _REPAIRS:
            if kind in kinds and wording.search(refusal.text):
                made = repair(draft, refusal.text)
                return None if made is None else Repaired(made[0], changed, made[1])
        return None


_Made = tuple[RequestDraft, str] | None


def _adaptive(draft: RequestDraft, _text: str) -> _Made:
    """The budget becomes an effort."""
    thinking = dict(thinking_of(draft.body))
    effort = effort_for(thinking.pop("budget_tokens", None))
    body = draft.body.with_members(thinking={**thinking, "type": "adaptive"})
    config = body.get("output_config")
    if effort and not effort_of(body):
        body = body.with_members(
            output_config={**(config if isinstance(config, dict) else {}), "effort": effort}
        )
    return draft.with_body(body), "thinking.type.enabled is not supported for this model"


def _enabled(draft: RequestDraft, text: str) -> _Made:
    """The effort becomes a budget, where one may be had: not in a turn that goes on without."""
    lesson = "adaptive thinking is not supported on this model"
    known = _KNOWN_KINDS.search(text)
    if known and "enabled" not in known["kinds"]:
        return without_switch(draft), f"{lesson}, expected tags: disabled"
    if forces_tool(draft.body) or lacks_thought(draft.body):
        return without_switch(draft), lesson
    budget = BUDGETS.get(effort_of(draft.body), BUDGETS["high"])
    return with_budget(draft, max(budget, LEAST_BUDGET)), lesson


def _unsaid(draft: RequestDraft, _text: str) -> _Made:
    body = draft.body.without("thinking")
    return settled(draft, body), "thinking.type.disabled is not supported for this model"


def _less_effort(draft: RequestDraft, _text: str) -> _Made:
    body = with_effort_among(draft.body, _NOT_HIGHEST)
    if body is draft.body:
        return None
    return draft.with_body(body), "thinking disabled does not go with effort xhigh or max"


def _no_effort(draft: RequestDraft, _text: str) -> _Made:
    body = without_effort(draft.body)
    if body is draft.body:
        return None
    return settled(draft, body), "thinking cannot be disabled when reasoning_effort is set"


_REPAIRS: Final[
    tuple[tuple[tuple[str, ...], re.Pattern[str], Callable[[RequestDraft, str], _Made], str], ...]
] = (
    (("enabled",), _ENABLED, _adaptive, "thinking changed from enabled to adaptive"),
    (("adaptive", "between_tools"), _ADAPTIVE, _enabled, "adaptive thinking replaced"),
    (("disabled",), _DISABLED_BUT_HIGH, _less_effort, "effort lowered to high"),
    (("disabled",), _DISABLED_BUT_EFFORT, _no_effort, "effort removed"),
    (("disabled",), _DISABLED, _unsaid, "thinking no longer disabled"),
)
"""How the request asks, the refusal, what is made of it, and what is said of that."""

THINKING_MODE: Final[Rectifier] = _ThinkingMode()
