from datetime import UTC

import pytest

from ccfallback.cli import phrases


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min"),
        (240, "4 min"),
        (3599, "1 h"),
        (7300, "2 h"),
        (86399, "1 d"),
        (400000, "5 d"),
    ],
)
def test_a_span_is_said_in_its_largest_unit(seconds: float, said: str) -> None:
    assert phrases.span(seconds) == said


def test_the_past() -> None:
    assert phrases.ago(100.0, 100.5) == "just now"
    assert phrases.ago(100.0, 220.0) == "2 min ago"


def test_the_future_comes_with_the_clock() -> None:
    assert phrases.ahead(1746973200, 1746972960, UTC) == "in 4 min, 14:20"
    assert phrases.ahead(1746973200 + 86400 * 2, 1746973200, UTC) == "in 2 d, May 13 14:20"


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_names_make_a_sentence(names: str, said: str) -> None:
    assert phrases.listed(names) == said
