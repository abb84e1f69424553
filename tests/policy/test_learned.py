"""What providers refuse, remembered for a day."""

import pytest
from msgspec.structs import replace

from ccfallback.config.model import KeySource, Provider
from ccfallback.policy.learned import (
    LIFE,
    MOST,
    PAUSE,
    LearnedRejection,
    PlainFormRefusals,
    drop_expired,
    find_valid,
    learn,
    remember,
    revise,
)
from ccfallback.redact import Secret

NOW = 1_000_000.0
PROVIDER = Provider(
    name="relay",
    base_url="https://relay.example",
    key=KeySource(literal=Secret("sk-1")),
    model_mapping={"claude-*": "large"},
)
REFUSED = "x: extra inputs are not permitted"


def lesson(model: str = "claude-opus", text: str = REFUSED, now: float = NOW) -> LearnedRejection:
    return learn(PROVIDER, "extra_fields", model, text, now)


def test_a_rejection_is_valid_for_a_day() -> None:
    rejections = remember((), lesson(), NOW)
    assert find_valid(rejections, PROVIDER, NOW + LIFE - 1) == rejections
    assert find_valid(rejections, PROVIDER, NOW + LIFE) == ()
    assert find_valid((), PROVIDER, NOW) == ()


def test_a_rejection_with_a_time_from_a_wrong_clock_is_not_valid() -> None:
    assert drop_expired((LearnedRejection("a", "m", "t", NOW + 2 * LIFE),), NOW) == ()


def test_the_same_rejection_learned_again_lives_for_another_day() -> None:
    rejections = remember((), lesson(), NOW)
    again = remember(rejections, lesson(now=NOW + 10), NOW + 10)
    assert [each.until for each in again] == [NOW + 10 + LIFE]
    assert len(remember(again, lesson("other"), NOW)) == 2


def test_a_rejection_is_about_the_model_that_the_provider_serves() -> None:
    rejections = remember((), lesson("claude-opus"), NOW)
    assert rejections[0].model == "large"
    assert find_valid(rejections, PROVIDER, NOW, "claude-haiku") == rejections
    assert find_valid(rejections, PROVIDER, NOW, "gpt") == ()
    remapped = replace(PROVIDER, model_mapping={"claude-*": "small"})
    assert find_valid(rejections, remapped, NOW, "claude-opus") == ()


@pytest.mark.parametrize(
    "other",
    [
        replace(PROVIDER, base_url="https://other.example"),
        replace(PROVIDER, format="openai"),
        replace(PROVIDER, key=KeySource(literal=Secret("sk-2"))),
    ],
)
def test_a_rejection_does_not_outlive_what_it_is_about(other: Provider) -> None:
    rejections = remember((), lesson(), NOW)
    assert find_valid(rejections, other, NOW) == ()
    assert find_valid(rejections, replace(PROVIDER, retry=2), NOW) == rejections


def test_a_rejection_of_an_older_version_has_no_subject() -> None:
    old = LearnedRejection("extra_fields", "large", REFUSED, NOW + 100)
    assert find_valid((old,), PROVIDER, NOW) == ()


def test_the_oldest_rejection_is_dropped() -> None:
    rejections: tuple[LearnedRejection, ...] = ()
    for number in range(MOST + 5):
        rejections = remember(rejections, lesson(text=str(number)), NOW)
    assert len(rejections) == MOST
    assert rejections[0].text == "5"


def test_a_revised_rejection_takes_the_place_of_the_old_one() -> None:
    old, other = lesson(), lesson(text="other")
    new = replace(old, text="new")
    assert revise((old, other), old, new) == (new, other)
    assert revise((old, other), old, None) == (other,)
    assert revise((other,), old, new) == (other,)


def test_a_refused_plain_form_is_remembered_for_a_while() -> None:
    refusals = PlainFormRefusals()
    assert not refusals.holds(PROVIDER, "claude-opus", NOW)
    refusals.add(PROVIDER, "claude-opus", NOW)
    assert refusals.holds(PROVIDER, "claude-haiku", NOW + PAUSE - 1)
    assert not refusals.holds(PROVIDER, "gpt", NOW)
    assert not refusals.holds(replace(PROVIDER, format="openai"), "claude-opus", NOW)
    assert not refusals.holds(PROVIDER, "claude-opus", NOW + PAUSE)
    assert not refusals.holds(PROVIDER, "claude-opus", NOW - 10 * PAUSE)
    for number in range(MOST - 1):
        refusals.add(PROVIDER, f"m{number}", NOW)
    assert refusals.holds(PROVIDER, "claude-opus", NOW)
    # What is refused again is the newest.
    refusals.add(PROVIDER, "claude-opus", NOW)
    refusals.add(PROVIDER, "another", NOW)
    assert refusals.holds(PROVIDER, "claude-opus", NOW)
    assert not refusals.holds(PROVIDER, "m0", NOW)
    for number in range(MOST):
        refusals.add(PROVIDER, f"n{number}", NOW)
    assert not refusals.holds(PROVIDER, "claude-opus", NOW)
