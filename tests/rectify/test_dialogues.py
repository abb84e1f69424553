"""Every rectifier in a dialogue: refused, repaired, taken; and taught, not refused again."""

from dataclasses import replace

import pytest

from ccfallback.config.model import Failover, Provider
from ccfallback.messages.tokens import Usage
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.failover import Admission, Reason, Try, failover, is_final
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.rectify import BY_NAME, RECTIFIERS, attempt, prevent
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from tests.rectify.drafts import FULL
from tests.rectify.refusals import REFUSALS
from tests.rectify.refused import REFUSED
from tests.rectify.structure import draft_of, tool
from tests.rectify.test_dialect import ROWS
from tests.rectify.test_structure import FAULTY

PROVIDER = Provider(name="other", base_url="https://other.test")
OK = Outcome(Fault.NONE, status=200)
NAMES = "tools.0.custom.name: String should have at most 64 characters"


def lesson_of(rectifier: Rectifier, made: Repaired) -> LearnedRejection:
    return LearnedRejection(rectifier.name, "m", made.lesson or "", 0.0)


def cases() -> dict[str, tuple[str, RequestDraft]]:
    """For each rectifier a refusal and a request that it repairs."""
    long_name = draft_of({**FAULTY, "tools": [tool("x" * 80)]})
    drafts = [*FULL, draft_of(FAULTY), draft_of({**FAULTY, "tools": []}), long_name]
    drafts += [replace(FULL[0], quirks=quirks) for quirks, _ in ROWS.values()]
    wordings = {**REFUSALS, **REFUSED, "tool_name_form": (NAMES,)}
    found: dict[str, tuple[str, RequestDraft]] = {}
    for rectifier in RECTIFIERS:
        for wording in wordings.get(rectifier.name, tuple(ROWS)):
            for draft in drafts:
                made = attempt(rectifier, draft, Refusal(400, wording))
                # A named place may be repaired for a limit that this request does not reach.
                if made and (not made.lesson or prevent(draft, [lesson_of(rectifier, made)])[1]):
                    found.setdefault(rectifier.name, (wording, draft))
    return found


CASES = cases()


class Open:
    """Everybody may be asked."""

    def admission(self, _provider: Provider) -> Admission:
        return Admission.OPEN

    def cooldown_until(self, _provider: Provider) -> float:
        return 0.0

    def begin(self, _provider: Provider) -> None:
        pass

    def settle(
        self, _provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        assert outcome is OK, "a repaired request is no failure"


def test_every_rectifier_has_its_case() -> None:
    assert set(CASES) == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_refused_repaired_taken_and_not_refused_again(name: str) -> None:
    wording, draft = CASES[name]
    lessons: list[LearnedRejection] = []

    def repair(
        _provider: Provider, draft: RequestDraft, outcome: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        assert name not in used
        made = attempt(BY_NAME[name], draft, Refusal(400, outcome.message))
        assert made is not None
        if made.lesson:
            lessons.append(LearnedRejection(name, "m", made.lesson, 0.0))
        return name, made.draft

    refusal = Outcome(Fault.REQUEST, status=400, message=wording)
    flow = failover(
        *(draft, [PROVIDER], Open()),
        is_final=is_final(Failover()),
        repair=repair,
        backoff=lambda _: 0.0,
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


@pytest.mark.parametrize("name", BY_NAME)
def test_a_rectifier_that_is_switched_off_prevents_nothing(name: str) -> None:
    wording, draft = CASES[name]
    made = attempt(BY_NAME[name], draft, Refusal(400, wording))
    assert made is not None
    lesson = LearnedRejection(name, "m", made.lesson or wording, 0.0)
    assert prevent(draft, [lesson], skip={name}) == (draft, [])
