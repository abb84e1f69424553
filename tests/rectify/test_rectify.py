"""Which repair is made, what the client repairs itself, and lessons in a dialogue."""

from functools import cache, partial
from typing import Any

import pytest
from msgspec.structs import replace

from ccfallback import rectify as package
from ccfallback.config.model import Failover, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.failover import Admission, Reason, Try, failover, is_final
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.rectify import NAMES, RULES, attempt, find_repairs, prevent, repaired_by_client
from ccfallback.rectify.rule import Refusal, Repaired, Rule, repaired
from tests.rectify.drafts import FULL, HI, THOUGHT, assistant, draft, draft_of, tool
from tests.rectify.refusals import REFUSALS, REFUSED
from tests.rectify.test_dialect import OPENAI, ROWS
from tests.rectify.test_properties import FAULTY

DRAFT = RequestDraft(Body.parse(b'{"model":"m","a":1}'))
REFUSAL = Refusal(400, "a: not permitted")


class Removals:
    """Rules that remove a member which the refusal names; counts how often each was asked."""

    def __init__(self, *names: str) -> None:
        self.asked = dict.fromkeys(names, 0)
        self.by_name = {name: (self._rule(name), self._again(name)) for name in names}

    def _rule(self, name: str) -> Rule[Any]:
        def matches(refusal: Refusal) -> bool:
            self.asked[name] += 1
            return refusal.message.startswith(f"{name}:")

        def change(before: RequestDraft, _found: bool) -> Repaired | None:
            return repaired(before, before.body.without(name), f"{name} removed")

        return Rule(name, matches, change, "a lesson")

    def _again(self, name: str) -> Rule[Any]:
        def change(before: RequestDraft, _found: bool) -> Repaired | None:
            return repaired(before, before.body.with_members(again=1), "never")

        return Rule(name, lambda refusal: refusal.message.startswith(f"{name}:"), change)


def rectify(before: RequestDraft, refusal: Refusal, **skip: Any) -> tuple[str, Repaired] | None:
    """The first repair that applies."""
    return next(find_repairs(before, refusal, **skip), None)


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> Removals:
    removals = Removals(*names)
    monkeypatch.setattr(package, "BY_NAME", removals.by_name)
    monkeypatch.setattr(package, "NAMES", names)
    return removals


def test_the_first_repair_that_applies_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    removals = install(monkeypatch, "x", "a", "model")
    found = rectify(DRAFT, REFUSAL)
    assert found is not None
    name, made = found
    assert (name, made.changed, made.lesson) == ("a", "a removed", "a lesson")
    assert made.draft.body.raw == b'{"model":"m"}'
    assert removals.asked == {"x": 1, "a": 1, "model": 0}
    assert DRAFT.body.raw == b'{"model":"m","a":1}'


def test_the_first_rule_of_a_name_that_matches_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "x")
    assert attempt("x", DRAFT, Refusal(400, "x: not permitted")) is None


def test_after_a_refusal_each_rule_that_matches_may_repair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, "x", "a", "model")
    found = [(name, made.changed) for name, made in find_repairs(DRAFT, REFUSAL)]
    assert found == [("a", "a removed"), ("a", "never")]
    found = [(name, made.changed) for name, made in find_repairs(DRAFT, Refusal(400, "x: no"))]
    assert found == [("x", "never")]


def test_no_rule_is_tried_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    removals = install(monkeypatch, "a", "model")
    assert rectify(DRAFT, REFUSAL) is not None
    assert removals.asked == {"a": 1, "model": 0}


def test_a_skipped_repair_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    removals = install(monkeypatch, "a")
    assert rectify(DRAFT, REFUSAL, skip={"a"}) is None
    assert removals.asked == {"a": 0}


def test_an_unknown_refusal_has_no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rectify(DRAFT, Refusal(400, "something else")) is None
    install(monkeypatch)
    assert rectify(DRAFT, REFUSAL) is None


def test_names_are_plain_and_rules_of_a_name_stand_together() -> None:
    assert "enabled" not in NAMES
    assert all(name.isidentifier() and name.islower() for name in NAMES)
    order = [NAMES.index(rule.name) for rule in RULES]
    assert order == sorted(order)


SIGNED = draft(HI, assistant(THOUGHT), HI)
OLD_LIMIT = replace(draft(max_tokens=9000, thinking={"type": "disabled"}), quirks=OPENAI)
SYSTEM = draft(HI, {"role": "system", "content": "A"})


@pytest.mark.parametrize(
    ("first", "second", "message", "before"),
    [
        # Removing only the named block does not help if the history changed.
        (
            "thinking_binding",
            "thinking_signature",
            "Invalid `signature` in `thinking` block: bound to a different conversation",
            SIGNED,
        ),
        # A wrong budget does not mean that the model takes no budgets.
        (
            "thinking_budget",
            "thinking_mode",
            "thinking.type: enabled is not supported: budget_tokens must be at least 1024",
            draft(thinking={"type": "enabled", "budget_tokens": 500}),
        ),
        # The refusal is about the translation, not about the client's request.
        (
            "dialect_roles",
            "system_role",
            "System role not supported",
            replace(SYSTEM, quirks=OPENAI),
        ),
        (
            "dialect_extra_body",
            "sampling",
            "Unsupported parameter: 'top_k'",
            replace(draft(top_k=5), quirks=replace(OPENAI, extra_body={"top_k": 1})),
        ),
        (
            "dialect_thinking",
            "output_config",
            "tools with reasoning_effort is not supported, reasoning_effort is not supported",
            replace(draft(output_config={"effort": "high"}), quirks=OPENAI),
        ),
    ],
)
def test_a_repair_comes_before_another_that_applies_as_well(
    first: str, second: str, message: str, before: RequestDraft
) -> None:
    refusal = Refusal(400, message)
    assert attempt(second, before, refusal) is not None
    found = rectify(before, refusal)
    assert found is not None
    assert found[0] == first


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, words) for name, texts in {**REFUSALS, **REFUSED}.items() for words in texts],
)
def test_every_refusal_gets_its_own_repair(name: str, words: str) -> None:
    for before in (*FULL, draft_of(FAULTY), draft_of({**FAULTY, "tools": []})):
        if attempt(name, before, Refusal(400, words)) is not None:
            found = rectify(before, Refusal(400, words))
            assert found is not None
            assert found[0] == name


@pytest.mark.parametrize(
    "message",
    [
        "context_management: Extra inputs are not permitted",
        "Unexpected value(s) `foo-1`, `bar-2` for the `anthropic-beta` header. Please consult",
        "messages.1.role: Input should be 'user' or 'assistant'",
        'messages: Unexpected role "system". The Messages API accepts a top-level `system`',
        "adaptive thinking is not supported on this model",
        "This model does not support the effort parameter.",
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens",
        "input length and `max_tokens` exceed context limit: 1 + 2 > 3",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ],
)
def test_what_the_client_repairs_is_left_to_it(message: str) -> None:
    assert repaired_by_client(Refusal(400, message))


@pytest.mark.parametrize(
    "message",
    [
        "thinking.budget_tokens: Input should be greater than or equal to 1024",
        "tools.0.custom.input_examples: Extra inputs are not permitted",
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after",
        "",
    ],
)
def test_other_refusals_are_not_left_to_the_client(message: str) -> None:
    assert not repaired_by_client(Refusal(400, message))


PROVIDER = Provider(name="other", base_url="https://other.test")
OK = Outcome(Fault.NONE, status=200)
TOO_LONG_NAME = "tools.0.custom.name: String should have at most 64 characters"


def lesson_of(name: str, made: Repaired) -> LearnedRejection:
    return LearnedRejection(name, "m", made.lesson or "", 0.0)


@cache
def drafts() -> list[RequestDraft]:
    """Requests of which each repair changes at least one."""
    long_name = draft_of({**FAULTY, "tools": [tool("x" * 80)]})
    found = [*FULL, draft_of(FAULTY), draft_of({**FAULTY, "tools": []}), long_name]
    return found + [replace(FULL[0], quirks=quirks) for quirks, _ in ROWS.values()]


@cache
def case(name: str) -> tuple[str, RequestDraft]:
    """A refusal and a request that this repair mends."""
    wordings: dict[str, tuple[str, ...]] = {
        **REFUSALS,
        **REFUSED,
        "tool_name_form": (TOO_LONG_NAME,),
    }
    for wording in wordings.get(name, tuple(ROWS)):
        for before in drafts():
            made = attempt(name, before, Refusal(400, wording))
            # A named place may be repaired for a limit that this request does not reach.
            if made and (not made.lesson or prevent(before, [lesson_of(name, made)])[1]):
                return wording, before
    raise AssertionError(f"no request is repaired by {name}")


class Open:
    """Every provider may be tried."""

    def is_capped(self, _provider: Provider) -> bool:
        return False

    def admission(self, _provider: Provider) -> Admission:
        return Admission.OPEN

    def cooldown_until(self, _provider: Provider) -> float:
        return 0.0

    def begin(self, _provider: Provider) -> None:
        pass

    def settle(
        self, _provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        assert outcome is OK, "a repaired request must not count as a failure"


@pytest.mark.parametrize("name", NAMES)
def test_a_repaired_request_is_accepted_and_the_next_one_is_repaired_beforehand(name: str) -> None:
    wording, draft = case(name)
    lessons: list[LearnedRejection] = []

    def repair(
        _provider: Provider, draft: RequestDraft, outcome: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        assert name not in used
        made = attempt(name, draft, Refusal(400, outcome.message))
        assert made is not None
        if made.lesson:
            lessons.append(LearnedRejection(name, "m", made.lesson, 0.0))
        return name, made.draft

    refusal = Outcome(Fault.REQUEST, status=400, message=wording)
    flow = failover(
        *(draft, [PROVIDER], Open()),
        is_final=partial(is_final, rules=Failover()),
        repair=repair,
        backoff=lambda _: 0.0,
        clock=lambda: 0.0,
    )
    first = next(flow)
    assert isinstance(first, Try)
    assert (first.reason, first.draft) == (Reason.FIRST, draft)
    second = flow.send(refusal)
    assert isinstance(second, Try)
    assert second.reason is Reason.RECTIFIED
    assert second.draft != draft
    with pytest.raises(StopIteration) as end:
        flow.send(OK)
    assert end.value.value is OK
    taught, used = prevent(draft, lessons)
    assert used == lessons
    if lessons:
        assert taught.body.raw == second.draft.body.raw
        assert (taught.betas, taught.names, taught.quirks) == (
            *(second.draft.betas, second.draft.names, second.draft.quirks),
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_repair_that_is_switched_off_prevents_nothing(name: str) -> None:
    wording, draft = case(name)
    made = attempt(name, draft, Refusal(400, wording))
    assert made is not None
    lesson = LearnedRejection(name, "m", made.lesson or wording, 0.0)
    assert prevent(draft, [lesson], skip={name}) == (draft, [])
