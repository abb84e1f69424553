"""What a repair is: a `Rule` that matches a refusal and changes the request.

A rule reads the refusal in `matches`; what it reads there, `change` gets with the draft.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from ccfallback.messages.body import Body
from ccfallback.messages.edit import ANY, Path
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.turns import kind_of, places, role_of
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import without_idle_betas

T = TypeVar("T")

_NOISE: Final = lazy_re(r"[`'\"\u2018\u2019\u201c\u201d]")
_SPACE: Final = lazy_re(r"\s+")
_DIGITS: Final = lazy_re(r"\d+")


class Refusal(msgspec.Struct, frozen=True, dict=True):
    """What an upstream said about the request that it refused."""

    status: int
    message: str
    code: str = ""
    """A machine-readable code, if it gave one."""

    @cached_property
    def text(self) -> str:
        """The message for matching: lower case, no quotes, single spaces."""
        return _SPACE.sub(" ", _NOISE.sub("", self.message)).lower().strip()

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The fields that the message calls unknown; see `refused_paths`."""
        return refused_paths(self.text)


class Repaired(msgspec.Struct, frozen=True):
    """A repair that was made."""

    draft: RequestDraft
    changed: str
    """What changed, in counts and names, never content: `3 thinking blocks removed`."""
    lesson: str | None = None
    """A refusal's message by which the same repair can be made on any later request for that
    provider and model, before it is refused; `None` if only this request was at fault.
    It consists of names and numbers only, because it is stored."""


def _always(_draft: RequestDraft) -> bool:
    return True


class Rule(msgspec.Struct, Generic[T], frozen=True):
    """One known repair. Rules of the same name are one repair for the user. The first that matches
    decides; after a refusal the next one that matches is tried if its change has no effect."""

    name: str
    matches: Callable[[Refusal], T | None]
    """What the refusal says about this; a false value if it is about something else."""
    change: Callable[[RequestDraft, T], Repaired | None]
    """The repair; `None` if there is nothing to change."""
    lesson: str | None = None
    """The lesson of a repair that has none of its own."""
    when: Callable[[RequestDraft], bool] = _always
    """Whether the request is one that this is about."""
    most: int = 1
    """How often one request may be repaired by rules of this name."""


def first_repair(
    rules: Iterable[Rule[Any]], draft: RequestDraft, refusal: Refusal
) -> Repaired | None:
    """The repair by the first of these rules that matches; `None` if it changes nothing."""
    for rule in rules:
        if rule.when(draft) and (found := rule.matches(refusal)):
            return _apply(rule, draft, found)
    return None


def all_repairs(
    rules: Iterable[Rule[Any]], draft: RequestDraft, refusal: Refusal
) -> Iterator[Repaired]:
    """The repairs by each of these rules that matches and changes something, in order."""
    for rule in rules:
        if rule.when(draft) and (found := rule.matches(refusal)):
            made = _apply(rule, draft, found)
            if made is not None:
                yield made


def _apply(rule: Rule[T], draft: RequestDraft, found: T) -> Repaired | None:
    made = rule.change(draft, found)
    if made is None:
        return None
    return replace(
        made, draft=without_idle_betas(draft, made.draft), lesson=made.lesson or rule.lesson
    )


def trigger(rules: Iterable[Rule[Any]], draft: RequestDraft, refusal: Refusal) -> object:
    """What these rules read in a refusal, to be compared; `None` if it is about something else.

    Positions and numbers in its text do not count: they differ where nothing else does.
    """
    for index, rule in enumerate(rules):
        if rule.when(draft) and (found := rule.matches(refusal)):
            if isinstance(found, re.Match):
                return index, _DIGITS.sub("", found[0])
            return index, found if isinstance(found, str | int | list | tuple | frozenset) else None
    return None


def says(*forms: str) -> Callable[[Refusal], re.Match[str] | None]:
    """A match for refusals whose text has one of these forms (regular expressions)."""
    form = "|".join(forms)
    return lambda refusal: _pattern(form).search(refusal.text)


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """The expression, compiled for the first refusal: to compile all of them slows each start."""
    return lazy_re(form)


def names_field(path: Path, *forms: str) -> Callable[[Refusal], bool]:
    """A match for refusals that call exactly this field unknown, or have one of these forms."""
    return lambda refusal: path in refusal.paths or _has_form(refusal, forms)


def names_member(member: str, *forms: str) -> Callable[[Refusal], bool]:
    """A match for refusals that call a member of the body, or a part of it, unknown; or have one
    of these forms."""
    return lambda refusal: (
        any(path[0] == member for path in refusal.paths) or _has_form(refusal, forms)
    )


def _has_form(refusal: Refusal, forms: Sequence[str]) -> bool:
    return any(re.search(form, refusal.text) for form in forms)


def repaired(
    draft: RequestDraft, body: Body, *changed: str, lesson: str | None = None
) -> Repaired | None:
    """A repair with this body; `None` if it is the same body, or if no words say what changed."""
    words = ", ".join(filter(None, changed))
    if body is draft.body or not words:
        return None
    return Repaired(draft.with_body(body), words, lesson)


def on_body(
    change: Callable[[Body], Body], changed: str
) -> Callable[[RequestDraft, Any], Repaired | None]:
    """A change of the body that always means the same."""
    return lambda draft, _found: repaired(draft, change(draft.body), changed)


def repaired_messages(
    draft: RequestDraft, messages: Sequence[Any], *changed: str, lesson: str | None = None
) -> Repaired | None:
    """A repair with these messages."""
    body = draft.body.with_items("messages", messages)
    return repaired(draft, body, *changed, lesson=lesson)


def describe(count: int, noun: str, done: str) -> str:
    """What happened to how many things, `2 images removed`; empty for none."""
    return f"{count} {noun}{'s' if count != 1 else ''} {done}" if count else ""


# --- Paths in refusals ---

_MOST_PATHS: Final = 5
"""Paths that one repair follows; a text that names more is about something else."""

_MOST_STEPS: Final = 12
_READ: Final = 4000

_NAME: Final = r"[a-z_*][\w*-]{0,63}"
_PATH: Final = rf"{_NAME}(?:(?:\.|/|\[)[\w*-]{{1,64}}\]?){{0,{_MOST_STEPS}}}"
_EXTRA: Final = r"(?:extra|additional) (?:input|field)s?(?: is| are)? not (?:permitted|allowed)"

_HINT: Final = lazy_re(r"not (?:permitted|allowed)|\bun[a-z]+\b|is not supported|extraneous")
"""Every wording contains one of these."""

_WORDINGS: Final = tuple(
    lazy_re(pattern)
    for pattern in (
        # Anthropic, Bedrock, pydantic
        rf"(?<![\w.])(?P<path>{_PATH}):? {_EXTRA}",
        # If the text goes on, it names a field of that one.
        rf"(?<![\w.])(?P<path>{_PATH}): (?:unexpected|unknown|unrecognized) field(?!:? \w)",
        # FastAPI's list, as JSON or as Python writes it
        rf"\bloc: ?[\[(](?P<loc>[\w*-]+(?:, ?[\w*-]+){{0,{_MOST_STEPS}}}),?[\])],"
        rf" ?msg: ?{_EXTRA}",
        # OpenAI, serde, Go
        r"(?:unexpected|unknown|unrecognized|unsupported) (?:request )?"
        r"(?:field|parameter|argument|key|property)\(?s?\)?(?: supplied)?:?"
        rf" (?P<paths>{_PATH}(?:, ?{_PATH}){{0,{_MOST_PATHS}}})",
        # Groq
        rf"(?:(?P<at>{_PATH}) ?: )?property (?P<leaf>{_NAME}) is (?:unsupported|not supported)",
        # Google
        rf"unknown name (?P<leaf>{_NAME})(?: at (?P<at>{_PATH}))?: cannot find field",
        # Bedrock
        rf"#/?(?P<at>{_PATH})?: extraneous key \[(?P<leaf>{_NAME})\] is not permitted",
        # JSON Schema
        r"additional properties are not allowed"
        rf" \((?P<paths>{_NAME}(?:, ?{_NAME}){{0,{_MOST_PATHS}}})"
        r" (?:was|were) unexpected\)",
    )
)

_ROOTS: Final = frozenset({"body", "request", "__root__", "#", "msg", "message", "error"})
"""First steps that lead to the request itself, or only look like a step."""
_STEPS: Final = lazy_re(r"[./\[\], ]+")


def refused_paths(text: str) -> tuple[Path, ...]:
    """The paths of the fields that a refusal calls unknown, each once, in any provider's words.

    An index stands for any item: what is refused in one message is refused in every message.
    """
    if _HINT.search(text) is None:
        return ()
    found = dict.fromkeys(_paths(text[:_READ]))
    return tuple(path for path in found if path)[:_MOST_PATHS]


def unknown_field(*paths: Path) -> str:
    """The lesson that these fields are unknown."""
    return "; ".join(f"{'.'.join(path)}: Extra inputs are not permitted" for path in paths)


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


_STEP: Final = r"(?:\.| ?-> ?)"
_PLACE: Final = lazy_re(
    rf"\bmessages{_STEP}(\d+){_STEP}content{_STEP}(\d+)"
    rf"((?:{_STEP}(?:content{_STEP}\d+|[a-z_]+))*)"
)
_INNER: Final = lazy_re(rf"{_STEP}content{_STEP}(\d+)")


def named_places(text: str) -> frozenset[tuple[int, ...]]:
    """The blocks that a refusal's text names by path: message, block, and a block inside that.

    Only paths in Anthropic's forms count: others are those of a translated request.
    """
    found = set()
    for path in _PLACE.finditer(text):
        inner = _INNER.search(path[3])
        steps = (path[1], path[2], *((inner[1],) if inner else ()))
        # A longer number is not an index, and Python refuses to parse a very long one.
        if all(len(step) < 10 for step in steps):
            found.add(tuple(int(step) for step in steps))
    return frozenset(found)


# --- What a repair did ---

_MEMBER_NAME: Final = lazy_re(r"[a-z][a-z0-9_-]{0,63}")
"""The name of a member, a flag or a type of block; anything else may be content."""

_ROLES: Final = ("user", "assistant", "system")


def difference(before: RequestDraft, after: RequestDraft) -> dict[str, Any]:
    """What differs between two drafts, measured: names and counts, never content.

    A key is there only if it says something. `removed`, `added` and `rewritten` are members of
    the body, `betas` the flags that were removed, `counts` how many more or fewer messages of a
    role and blocks of a type there are, `renamed` how many tools have other names, and `quirks`
    the switches that are set otherwise.
    """
    old, new = before.body, after.body
    found: dict[str, Any] = {
        "removed": _safe(name for name in old.names if name not in new),
        "added": _safe(name for name in new.names if name not in old),
        "rewritten": _safe(
            name for name in new.names if name in old and old.member(name) != new.member(name)
        ),
        "betas": _safe(beta for beta in before.betas if beta not in after.betas),
        "counts": _count_changes(old, new),
        "renamed": len(after.names.keys() - before.names.keys()),
        "quirks": _changed_quirks(before, after),
    }
    return {key: value for key, value in found.items() if value}


def _safe(names: Iterable[str]) -> list[str]:
    return [name for name in names if _MEMBER_NAME.fullmatch(name)]


def _count_changes(old: Body, new: Body) -> dict[str, int]:
    if old.member("messages") == new.member("messages"):
        return {}
    change = _counts(new)
    change.subtract(_counts(old))
    return {name: count for name, count in sorted(change.items()) if count}


def _counts(body: Body) -> Counter[str]:
    roles = (role for role in map(role_of, body.messages) if role in _ROLES)
    kinds = _safe(kind_of(block) for _, block in places(body.messages))
    return Counter(f"{role}_messages" for role in roles) + Counter(kinds)


def _changed_quirks(before: RequestDraft, after: RequestDraft) -> list[str]:
    if before.quirks is None or after.quirks is None:
        return []
    names = after.quirks.__struct_fields__
    return [name for name in names if getattr(before.quirks, name) != getattr(after.quirks, name)]
