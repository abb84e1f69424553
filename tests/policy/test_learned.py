"""What providers refuse, remembered for a day."""

from ccfallback.policy.learned import (
    LIFE,
    MOST,
    LearnedRejection,
    remember,
    renew,
    still_valid,
)

NOW = 1_000_000.0


def test_a_rejection_is_valid_for_a_day() -> None:
    rejections = remember((), "extra_fields", "m", "x: extra inputs are not permitted", NOW)
    assert still_valid(rejections, NOW + LIFE - 1) == rejections
    assert still_valid(rejections, NOW + LIFE) == ()


def test_a_rejection_with_a_time_from_a_wrong_clock_is_not_valid() -> None:
    assert still_valid((LearnedRejection("a", "m", "t", NOW + 3 * LIFE),), NOW) == ()


def test_the_same_rejection_again_is_renewed() -> None:
    rejections = remember((), "a", "m", "t", NOW)
    again = remember(rejections, "a", "m", "t", NOW + 10)
    assert [each.until for each in again] == [NOW + 10 + LIFE]
    assert len(remember(again, "a", "other", "t", NOW)) == 2


def test_a_used_rejection_is_renewed_but_not_at_every_use() -> None:
    rejections = remember(remember((), "a", "m", "t", NOW), "b", "m", "t", NOW)
    later = NOW + LIFE * 0.6
    assert not rejections[0].needs_renewal(NOW + 1)
    assert rejections[0].needs_renewal(later)
    first, second = renew(rejections, rejections[:1], later)
    assert first.until == later + LIFE
    assert second == rejections[1]


def test_the_oldest_rejection_is_dropped() -> None:
    rejections: tuple[LearnedRejection, ...] = ()
    for number in range(MOST + 5):
        rejections = remember(rejections, "a", "m", str(number), NOW)
    assert len(rejections) == MOST
    assert rejections[0].text == "5"
