"""Repairs of a refused request. Pure: a draft of a Messages request in, another one out.

A new repair is a row in one of the themed modules. Its name is its switch in `[rectifier]`;
rows of the same name are one repair.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.rectify import cache, dialect, fields, media, thinking, tool_results, tools, turns
from ccfallback.rectify.rule import Refusal, Repaired, Rule, all_repairs, first_repair, says

RULES: Final[tuple[Rule[Any], ...]] = (
    *dialect.RULES,
    *fields.BETA_FLAGS,
    *fields.OWN_FIELDS,
    *tools.FIELDS,
    *cache.RULES,
    *tools.CHANGES,
    *turns.SYSTEM_ROLE,
    *thinking.FIELDS,
    *fields.ANY_FIELD,
    *thinking.RULES,
    *turns.BLOCK_TYPES,
    *tools.SERVER_TOOLS,
    *tool_results.SERVER_TOOLS,
    *tool_results.RULES,
    *tools.RULES,
    *turns.EMPTY_TEXT,
    *turns.CITATIONS,
    *media.RULES,
    *turns.ORDER,
    *dialect.ORDER,
)
"""In the order in which they are considered: how the provider wants the request translated, fields
and flags, thinking, then structure. A rule for one field comes before the rule for any field."""

BY_NAME: Final[Mapping[str, tuple[Rule[Any], ...]]] = {
    name: tuple(rule for rule in RULES if rule.name == name)
    for name in dict.fromkeys(rule.name for rule in RULES)
}

NAMES: Final = tuple(BY_NAME)
"""The names of all repairs, in order."""

PLAIN_FORM: Final = "plain_form"
"""The name of the last resort for a refusal that no rule knows; see `rectify.plain_form`."""

SWITCHES: Final = (*NAMES, PLAIN_FORM)
"""What `[rectifier]` can switch off."""

ROUNDS: Final = 3
"""How often lessons are applied: one repair may call for another, as when it moves a field to
where the provider refuses it."""


def find_repairs(
    draft: RequestDraft, refusal: Refusal, *, skip: Collection[str] = ()
) -> Iterator[tuple[str, Repaired]]:
    """The repairs that apply and are not to be skipped, in order, each with its name.

    The next one is for a format in which the one before changes nothing of the request.
    """
    for name in NAMES:
        if name in skip:
            continue
        try:
            for made in all_repairs(BY_NAME.get(name, ()), draft, refusal):
                yield name, made
        except RecursionError:
            # The body is nested too deeply to be walked.
            continue


def prevent(
    draft: RequestDraft, lessons: Iterable[LearnedRejection], *, skip: Collection[str] = ()
) -> tuple[RequestDraft, list[LearnedRejection]]:
    """The draft without what the lessons say is refused, and the lessons that changed it."""
    known = sorted(
        (lesson for lesson in lessons if lesson.rectifier in BY_NAME.keys() - skip),
        key=lambda lesson: NAMES.index(lesson.rectifier),
    )
    used: list[LearnedRejection] = []
    for _ in range(ROUNDS):
        before = draft
        for lesson in known:
            made = attempt(lesson.rectifier, draft, _refusal(lesson.text))
            if made is not None:
                draft = made.draft
                used.append(lesson)
        if draft is before:
            break
    return draft, used


@lru_cache(maxsize=512)
def _refusal(text: str) -> Refusal:
    """A lesson as a refusal, which is read once for many requests."""
    return Refusal(400, text)


def attempt(name: str, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
    """The repair of this name; `None` if it does not apply, or if the body is nested too deeply
    to be walked."""
    try:
        return first_repair(BY_NAME.get(name, ()), draft, refusal)
    except RecursionError:
        return None


CLIENTS_OWN: Final = frozenset({"media", "prefill", "tool_schemas"})
"""Repairs that are not made for the primary: they cost more than they help, since the client has
ways of its own."""

_REPAIRED_BY_THE_CLIENT: Final = says(
    r"context_management: extra inputs are not permitted",
    r"unexpected values?(?:\(s\))? .* for the anthropic-beta header",
    r"role: input should be user or assistant",
    r"unexpected role system",
    r"adaptive thinking is not supported",
    r"does not support the effort parameter",
    r"max_tokens: \d+ > \d+",
    r"input length and max_tokens exceed context limit",
    r"invalid signature in thinking block",
)


def repaired_by_client(refusal: Refusal) -> bool:
    """Whether Claude Code itself repairs a request with this refusal.

    For the primary that is left to it: it edits the request by the wording of the refusal and
    remembers that for the session, which a repair here would prevent. Other clients do not.
    """
    return _REPAIRED_BY_THE_CLIENT(refusal) is not None
