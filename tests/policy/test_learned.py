"""What providers refuse, remembered for a day."""

from ccfallback.policy.learned import (
    LIFE,
    MOST,
    LearnedRejection,
    learned,
    renewed,
    valid,
    wearing_out,
)

NOW = 1_000_000.0


def test_a_lesson_holds_for_a_day() -> None:
    lessons = learned((), "extra_fields", "m", "x: extra inputs are not permitted", NOW)
    assert valid(lessons, NOW + LIFE - 1) == lessons
    assert valid(lessons, NOW + LIFE) == ()


def test_a_lesson_of_a_wrong_clock_does_not_hold() -> None:
    assert valid((LearnedRejection("a", "m", "t", NOW + 3 * LIFE),), NOW) == ()


def test_the_same_lesson_again_is_one_with_new_life() -> None:
    lessons = learned((), "a", "m", "t", NOW)
    again = learned(lessons, "a", "m", "t", NOW + 10)
    assert [lesson.until for lesson in again] == [NOW + 10 + LIFE]
    assert len(learned(again, "a", "other", "t", NOW)) == 2


def test_only_the_used_are_renewed_and_not_at_every_use() -> None:
    lessons = learned(learned((), "a", "m", "t", NOW), "b", "m", "t", NOW)
    later = NOW + LIFE * 0.6
    assert not wearing_out(lessons[0], NOW + 1)
    assert wearing_out(lessons[0], later)
    first, second = renewed(lessons, lessons[:1], later)
    assert first.until == later + LIFE
    assert second == lessons[1]


def test_the_oldest_make_room() -> None:
    lessons: tuple[LearnedRejection, ...] = ()
    for number in range(MOST + 5):
        lessons = learned(lessons, "a", "m", str(number), NOW)
    assert len(lessons) == MOST
    assert lessons[0].text == "5"
