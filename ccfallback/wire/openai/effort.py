"""How hard the model shall think, in the words of each provider.

OpenAI's own models have rules by name, and a provider that resells them keeps those.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.effort import EFFORTS

_BUDGETS: Final = ((4096, "low"), (16384, "medium"), (31999, "high"))
"""Up to so many tokens of thinking are this effort: a convention, not protocol."""

_SMALLEST_BUDGET: Final = 1024

_GPT: Final = re.compile(r"(?:^|/)gpt-(\d+)(?:\.(\d+))?")
_O_SERIES: Final = re.compile(r"(?:^|/)o\d+(?:-|$)")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asks of the model's thinking."""

    on: bool = False
    off: bool = False
    effort: str = ""
    budget: int = 0

    @classmethod
    def of(cls, body: Body) -> "Wish":
        """The wish of a request; the last message that names an effort has the last word."""
        value = body.get("thinking")
        thinking: Mapping[str, object] = value if isinstance(value, dict) else {}
        kind, budget = thinking.get("type"), thinking.get("budget_tokens")
        return cls(
            on=isinstance(kind, str) and kind != "disabled",
            off=kind == "disabled",
            effort=_effort_of(body),
            budget=max(budget, 0) if isinstance(budget, int) and kind == "enabled" else 0,
        )

    @property
    def thinks(self) -> bool:
        """Whether the model shall think at all."""
        return not self.off and (self.on or bool(self.effort))

    def level(self, highest: str) -> str:
        """The effort, as far as the provider knows it; empty where the client named none."""
        effort = self.effort
        if not effort and self.budget:
            effort = next((name for limit, name in _BUDGETS if self.budget <= limit), "xhigh")
        if not effort or highest not in EFFORTS:
            return effort
        return EFFORTS[min(EFFORTS.index(effort), EFFORTS.index(highest))]


def is_openai_reasoning(model: str) -> bool:
    """Whether it is one of OpenAI's models that think, which refuse what steers the others."""
    return _version(model) >= (5, 0) or _O_SERIES.search(model.lower()) is not None


def reasoning_members(
    wish: Wish, quirks: Quirks, model: str, *, has_tools: bool, max_tokens: int
) -> dict[str, Any]:
    """The members of a request that ask for thinking, or for none."""
    ask = _STYLES.get(quirks.reasoning)
    return ask(wish, quirks, model, has_tools, max_tokens) if ask is not None else {}


def _effort_of(body: Body) -> str:
    history = body.get("messages")
    for message in reversed(history) if isinstance(history, list) else ():
        effort = _effort_in(message.get("output_config")) if isinstance(message, dict) else ""
        if effort:
            return effort
    return _effort_in(body.get("output_config"))


def _effort_in(output_config: object) -> str:
    effort = output_config.get("effort") if isinstance(output_config, dict) else None
    return effort if isinstance(effort, str) and effort in EFFORTS else ""


def _version(model: str) -> tuple[int, int]:
    """The version of a GPT model; zero of any other."""
    match = _GPT.search(model.lower())
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def _as_effort(
    wish: Wish, quirks: Quirks, model: str, has_tools: bool, _max: int
) -> dict[str, Any]:
    version = _version(model)
    if (0, 0) < version < (5, 0):
        return {}
    if version >= (5, 4) and has_tools:
        # Chat Completions refuses to call functions and think: the other API would be needed.
        return {"reasoning_effort": "none"}
    level = wish.level(quirks.max_effort)
    if wish.thinks:
        return {"reasoning_effort": level} if level else {}
    return {"reasoning_effort": "none"} if version >= (5, 1) else {}


def _as_openrouter(
    wish: Wish, quirks: Quirks, _model: str, _tools: bool, max_tokens: int
) -> dict[str, Any]:
    if wish.off:
        return {"reasoning": {"enabled": False}}
    if not wish.thinks:
        # Some models behind it can't do without, and refuse to be told.
        return {}
    budget = min(wish.budget, max_tokens - 1) if max_tokens else wish.budget
    if not wish.effort and budget >= _SMALLEST_BUDGET:
        return {"reasoning": {"max_tokens": budget}}
    level = wish.level(quirks.max_effort)
    return {"reasoning": {"effort": level} if level else {"enabled": True}}


def _as_thinking(
    wish: Wish, _quirks: Quirks, _model: str, _tools: bool, _max: int
) -> dict[str, Any]:
    return {"thinking": {"type": "enabled" if wish.thinks else "disabled"}}


def _as_enable_thinking(
    wish: Wish, _quirks: Quirks, _model: str, _tools: bool, _max: int
) -> dict[str, Any]:
    if wish.thinks and wish.budget:
        return {"enable_thinking": True, "thinking_budget": wish.budget}
    return {"enable_thinking": wish.thinks}


_STYLES: Final[Mapping[str, Callable[[Wish, Quirks, str, bool, int], dict[str, Any]]]] = {
    "effort": _as_effort,
    "openrouter": _as_openrouter,
    "thinking": _as_thinking,
    "enable_thinking": _as_enable_thinking,
}
