"""Temperature and the like where a model does not take them, or not together."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.paths import refused_paths
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_NAMES: Final = ("temperature", "top_p", "top_k")
_LESSER: Final = ("top_p",)
_NAME: Final = r"\b(?:temperature|top_p|top_k)\b"

_NOT_BOTH: Final = re.compile(
    r"\btemperature and top_p cannot both be (?:specified|set)"
    r"|cannot (?:specify|set) both temperature and top_p"
)
_ALL_OF_THEM: Final = re.compile(
    rf"{_NAME}.{{0,20}}\b(?:is|are) deprecated\b"
    rf"|{_NAME}.{{0,60}}\bnot (?:supported|allowed|permitted) (?:under|with|in) .{{0,40}}version"
    r"|\bsampling parameters\b.{0,40}\bnot (?:supported|allowed|permitted)"
)
_WITH_THINKING: Final = re.compile(rf"{_NAME}.{{0,60}}\bwhen thinking is enabled")
_ONE: Final = re.compile(
    r"unsupported (?:value|parameter)s?:? (?P<first>temperature|top_p|top_k)\b"
    r"|\binvalid (?P<second>temperature|top_p|top_k): only 1(?:\.0)? is allowed"
    r"|\b(?P<third>temperature|top_p|top_k)(?: parameter)? (?:is|are) (?:not supported|unsupported)"
    r"|not support(?: the)? (?P<fourth>temperature|top_p|top_k)\b"
)


class _Sampling:
    name = "sampling"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out what is refused; which of two is not said, so the lesser one."""
        refused, lesson = _refused(refusal.text)
        names = [name for name in refused if name in draft.body]
        if not names or (refused == _LESSER and "temperature" not in draft.body):
            return None
        return Repaired(
            draft.with_body(draft.body.without(*names)), f"{', '.join(names)} removed", lesson
        )


def _refused(text: str) -> tuple[tuple[str, ...], str | None]:
    """What has to go, and the lesson."""
    if _WITH_THINKING.search(text):
        # The model takes them in a request that does not think.
        return _NAMES, None
    if _NOT_BOTH.search(text):
        return _LESSER, "temperature and top_p cannot both be specified"
    if _ALL_OF_THEM.search(text):
        return _NAMES, "temperature is deprecated for this model"
    named = {path[0] for path in refused_paths(text) if len(path) == 1}
    for match in _ONE.finditer(text):
        named |= {name for name in match.groups() if name}
    names = tuple(name for name in _NAMES if name in named)
    return names, "; ".join(f"Unsupported parameter: {name}" for name in names)


SAMPLING: Final[Rectifier] = _Sampling()
