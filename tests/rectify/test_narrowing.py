"""The steps of the plain form that a provider needs are found in few requests."""

from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify.narrowing import MOST_TRIALS, Narrowing
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
    assert known.needed == (name,)
    assert known.unsure == known.suspects == ()


def test_no_step_is_kept_if_none_is_needed() -> None:
    assert narrow(set()).steps == frozenset()


def test_several_needed_steps_are_never_lost() -> None:
    for pair in combinations(NAMES, 2):
        narrow(set(pair))
    everything = narrow(set(NAMES))
    assert everything.steps == set(NAMES)


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
            assert set(known.suspects) <= set(known.unsure)
    assert known.trials <= MOST_TRIALS


def test_a_narrowing_can_be_stored() -> None:
    known = Narrowing(("betas",), ("media", "tools"), ("tools", "media"), 3)
    assert Narrowing.parse(known.text) == Narrowing(
        ("betas",), ("media", "tools"), ("media", "tools"), 3
    )
    assert Narrowing.parse(Narrowing().text) == Narrowing()
    assert (
        known.text
        == "plain form needed: betas; unsure: media, tools; one of: tools, media; trials: 3"
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
