"""Which fields a refusal calls unknown, in everybody's words.

Only the position in the schema is read: an index stands for any.
"""

import re
from collections.abc import Iterator
from typing import Final

from ccfallback.rectify.parts import ANY, Path

MOST: Final = 5
"""Paths that one repair follows; a text that names more is about something else."""

_LONGEST: Final = 12
_READ: Final = 4000

_NAME: Final = r"[a-z_*][\w*-]{0,63}"
_PATH: Final = rf"{_NAME}(?:(?:\.|/|\[)[\w*-]{{1,64}}\]?){{0,{_LONGEST}}}"
_EXTRA: Final = r"(?:extra|additional) (?:input|field)s?(?: is| are)? not (?:permitted|allowed)"

_HINT: Final = re.compile(r"not (?:permitted|allowed)|\bun[a-z]+\b|is not supported|extraneous")
"""Something of this is in all wordings."""

_WORDINGS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # Anthropic, Bedrock, pydantic
        rf"(?<![\w.])(?P<path>{_PATH}):? {_EXTRA}",
        # Where it goes on, it names a field of that one.
        rf"(?<![\w.])(?P<path>{_PATH}): (?:unexpected|unknown|unrecognized) field(?!:? \w)",
        # FastAPI's list, as JSON or as Python writes it
        rf"\bloc: ?[\[(](?P<loc>[\w*-]+(?:, ?[\w*-]+){{0,{_LONGEST}}}),?[\])],"
        rf" ?msg: ?{_EXTRA}",
        # OpenAI, serde, Go
        r"(?:unexpected|unknown|unrecognized|unsupported) (?:request )?"
        r"(?:field|parameter|argument|key|property)\(?s?\)?(?: supplied)?:?"
        rf" (?P<paths>{_PATH}(?:, ?{_PATH}){{0,{MOST}}})",
        # Groq
        rf"(?:(?P<at>{_PATH}) ?: )?property (?P<leaf>{_NAME}) is (?:unsupported|not supported)",
        # Google
        rf"unknown name (?P<leaf>{_NAME})(?: at (?P<at>{_PATH}))?: cannot find field",
        # Bedrock
        rf"#/?(?P<at>{_PATH})?: extraneous key \[(?P<leaf>{_NAME})\] is not permitted",
        # JSON Schema
        rf"additional properties are not allowed \((?P<paths>{_NAME}(?:, ?{_NAME}){{0,{MOST}}})"
        r" (?:was|were) unexpected\)",
    )
)

_ROOTS: Final = frozenset({"body", "request", "__root__", "#", "msg", "message", "error"})
"""First steps that lead to the request itself, or only look like one."""
_STEPS: Final = re.compile(r"[./\[\], ]+")


def refused_paths(text: str) -> tuple[Path, ...]:
    """The paths of the fields that a refusal's `text` calls unknown, each once."""
    if _HINT.search(text) is None:
        return ()
    found = dict.fromkeys(_paths(text[:_READ]))
    return tuple(path for path in found if path)[:MOST]


def unknown_field(path: Path) -> str:
    """The lesson that a field is unknown."""
    return f"{'.'.join(path)}: Extra inputs are not permitted"


def unknown_fields(paths: list[Path]) -> str:
    """The lesson that several fields are unknown."""
    return "; ".join(map(unknown_field, paths))


def _paths(text: str) -> Iterator[Path]:
    for wording in _WORDINGS:
        for match in wording.finditer(text):
            named = match.groupdict()
            if named.get("paths"):
                yield from map(_steps, re.split(r", ?", named["paths"]))
            elif named.get("leaf"):
                yield (*_steps(named.get("at") or ""), *_steps(named["leaf"]))
            else:
                yield _steps(named.get("path") or named.get("loc") or "")


def _steps(path: str) -> Path:
    steps = [ANY if step.isdigit() else step for step in _STEPS.split(path) if step]
    while steps and steps[0] in _ROOTS:
        steps.pop(0)
    return tuple(steps)
