from datetime import UTC

import pytest

from ccfallback.cli import phrases


@pytest.mark.parametrize(
    ("seconds", "text"),
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
def test_a_duration_in_its_largest_unit(seconds: float, text: str) -> None:
    assert phrases.format_duration(seconds) == text


def test_a_past_time() -> None:
    assert phrases.format_ago(100.0, 100.5) == "just now"
    assert phrases.format_ago(100.0, 220.0) == "2 min ago"


def test_a_future_time_comes_with_the_clock() -> None:
    assert phrases.format_ahead(1746973200, 1746972960, UTC) == "in 4 min, 14:20"
    assert phrases.format_until(1746973200, 1746972960, UTC) == "until 14:20, in 4 min"
    assert phrases.format_ahead(1746973200 + 86400 * 2, 1746973200, UTC) == "in 2 d, May 13 14:20"


def test_a_beginning_comes_with_the_clock() -> None:
    assert phrases.format_since(1746972960, 1746973200, UTC) == "since 14:16 (4 min)"
    assert (
        phrases.format_since(1746973200 - 86400 * 2, 1746973200, UTC) == "since May 09 14:20 (2 d)"
    )


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_names_in_a_sentence(names: str, text: str) -> None:
    assert phrases.join_names(names) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0004, "1 ms"),
        (0.004, "4 ms"),
        (0.0099, "10 ms"),
        (0.066, "66 ms"),
        (0.0996, "0.10 s"),
        (0.41, "0.41 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (240, "4 min"),
    ],
)
def test_a_latency_has_about_two_digits(seconds: float | None, text: str) -> None:
    assert phrases.format_latency(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (14083, "14.1k"),
        (99_960, "100k"),
        (2_500_000, "2.5M"),
    ],
)
def test_a_count_is_short(count: int, text: str) -> None:
    assert phrases.format_count(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.99999, "99.9 %"),
        (0.00001, "0.1 %"),
        (0.5, "50.0 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float | None, text: str) -> None:
    assert phrases.format_percent(share) == text


def test_a_sparkline_has_a_character_for_each_value() -> None:
    assert phrases.draw_sparkline([0, 1, 4, None, 8]) == "▁▂▅ █"
    assert phrases.draw_sparkline([0, 0]) == "▁▁"
    assert phrases.draw_sparkline([None]) == " "
    assert phrases.draw_sparkline([]) == ""


def test_words_and_commands_stay_whole() -> None:
    text = "it is not so; `ccfallback config rollback 3` undoes it\n\nshort"
    assert phrases.wrap_text(text, 30).split("\n") == [
        "it is not so;",
        "`ccfallback config rollback 3`",
        "undoes it",
        "",
        "short",
    ]
    assert phrases.wrap_text(text, None) == text
    path = "/a/very-long/path/" * 5
    assert phrases.wrap_text(f"see {path} there", 20).split("\n") == ["see", path, "there"]


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("claude-sonnet-4-5-20250929", "sonnet-4-5"),
        ("claude-opus-5-5", "opus-5-5"),
        ("gpt-x-12345678", "gpt-x-12345678"),
        ("", ""),
    ],
)
def test_a_model_name_is_shortened(model: str, short: str) -> None:
    assert phrases.shorten_model(model) == short
