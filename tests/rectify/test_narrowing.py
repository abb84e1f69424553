"""The steps of the plain form that a provider needs are found in few requests."""

from itertools import combinations
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.narrowing import _LIKELY, MOST_TRIALS, Narrowing
from ccfallback.rectify.plain_form import NAMES


def narrow(needed: set[str], changed: tuple[str, ...] = NAMES) -> Narrowing:
    """What is known in the end; each request without a needed step is refused."""
    known = Narrowing.begin(changed)
    for _ in range(MOST_TRIALS + 1):
        left_out = known.to_leave_out(changed)
        if not left_out:
            break
        assert left_out <= known.steps
        known = known.after(left_out, accepted=not left_out & needed)
        known = Narrowing.parse(known.text)
        assert needed <= known.steps, "the provider would refuse the next request"
    assert not known.to_leave_out(changed)
    assert known.trials <= MOST_TRIALS
    return known


@pytest.mark.parametrize("name", NAMES)
def test_one_needed_step_is_found(name: str) -> None:
    known = narrow({name})
    assert name in known.steps
    # The last of six answers may leave one other step open.
    assert len(known.steps) <= 2


def test_no_step_is_kept_if_none_is_needed() -> None:
    assert narrow(set()).steps == frozenset()


def test_several_needed_steps_are_never_lost() -> None:
    for pair in combinations(NAMES, 2):
        narrow(set(pair))
    everything = narrow(set(NAMES))
    assert everything.steps == set(NAMES)


@pytest.mark.parametrize(("size", "most"), [(1, 1.5), (2, 4.5), (3, 7.5)])
def test_few_steps_are_kept_besides_the_needed_ones(size: int, most: float) -> None:
    chosen = Random(size).sample(list(combinations(NAMES, size)), 12)
    assert fmean(len(narrow(set(needed)).steps) for needed in chosen) <= most


@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=3), st.sets(st.sampled_from(NAMES)))
@settings(deadline=None)
def test_six_requests_keep_every_needed_step(needed: set[str], changed: set[str]) -> None:
    known = narrow(needed & changed, tuple(sorted(changed)))
    assert needed & changed <= known.steps <= changed


def test_steps_of_new_parts_of_the_api_are_found_soonest() -> None:
    likely = {"betas", "thinking"}
    assert narrow(likely).steps == likely
    assert set(_LIKELY) == set(NAMES)


def test_an_answer_that_contradicts_another_ends_in_no_trouble() -> None:
    known = Narrowing.begin(NAMES).after({"media", "tools"}, accepted=False)
    assert known.groups == (("media", "tools"),)
    known = known.after({"media", "tools"}, accepted=True)
    assert known.groups == ()
    assert known.steps == set(NAMES) - {"media", "tools"}


def test_only_the_smallest_groups_are_kept() -> None:
    known = Narrowing(unsure=NAMES).after({"media", "tools", "betas"}, accepted=False)
    known = known.after({"media", "tools"}, accepted=False)
    assert known.groups == (("media", "tools"),)
    known = known.after({"tools"}, accepted=False)
    assert (known.needed, known.groups) == (("tools",), ())
    assert "tools" not in known.unsure


def test_more_needed_steps_than_expected_are_halved() -> None:
    pairs = tuple((NAMES[first], NAMES[first + 1]) for first in (0, 2, 4, 6, 8))
    known = Narrowing(unsure=NAMES, groups=pairs, trials=2)
    assert known.to_leave_out(NAMES) == {NAMES[0]}
    assert known.to_leave_out(NAMES[10:]) == {NAMES[10]}


@given(st.sets(st.sampled_from(NAMES)), st.integers())
def test_requests_of_any_kind_lead_to_no_wrong_lesson(needed: set[str], seed: int) -> None:
    random = Random(seed)
    known = Narrowing.begin(NAMES)
    for _ in range(20):
        changed = {name for name in NAMES if random.random() < 0.5}
        left_out = known.to_leave_out(changed)
        if left_out:
            assert left_out <= changed
            known = known.after(left_out, accepted=not left_out & needed)
            assert needed <= known.steps
            assert {name for group in known.groups for name in group} <= set(known.unsure)
    assert known.trials <= MOST_TRIALS


def test_a_narrowing_can_be_stored() -> None:
    unsure = ("media", "schemas", "tools")
    known = Narrowing(("betas",), unsure, (("media", "schemas"), ("tools", "media")), 3)
    parsed = Narrowing.parse(known.text)
    assert parsed == Narrowing(("betas",), unsure, (("media", "schemas"), ("media", "tools")), 3)
    assert Narrowing.parse(Narrowing().text) == Narrowing()
    assert parsed.text == (
        "plain form needed: betas; unsure: media, schemas, tools; "
        "one of: media, schemas or media, tools; trials: 3"
    )


@pytest.mark.parametrize(
    "text", ["", "trials", "trials: x; unsure: ; a: b: c", "plain form needed"]
)
def test_a_strange_text_says_nothing(text: str) -> None:
    assert not Narrowing.parse(text).to_leave_out(NAMES)
    assert Narrowing.parse(text).steps == frozenset()


def test_a_step_of_another_version_is_ignored() -> None:
    known = Narrowing.parse("plain form needed: betas, gone; unsure: also_gone; trials: 1")
    assert known == Narrowing(("betas",), trials=1)


def test_a_second_plain_form_keeps_what_is_certain() -> None:
    before = Narrowing(("betas",), (), (), 6)
    known = Narrowing.begin(("betas", "media"), before)
    assert known == Narrowing(("betas",), ("media",))
