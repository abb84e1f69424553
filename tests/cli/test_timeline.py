"""The story on the screen: one scale for all, every line within the terminal."""

from datetime import UTC

import pytest

from ccfallback.cli.timeline import lines
from ccfallback.events.explanation import (
    Attempt,
    Candidate,
    Cooldown,
    Difference,
    Explanation,
    Repair,
    Standing,
)

NOON = 1_778_500_800_000
LONG = "a word " * 40


def plain(text: str, _style: str) -> str:
    return text


def story() -> Explanation:
    return Explanation(
        id="ccr-1_k3f9x2a",
        began=NOON,
        model="claude-x",
        stream=True,
        bytes=49_200,
        provider="two",
        status=200,
        seconds=4.0,
        ttft=2.0,
        attempts=3,
        tokens={"input": 2000, "cache_read": 10_000, "output": 321},
        client_saw="200, a whole stream",
        complete=True,
        candidates=[
            Candidate(
                "one",
                Standing.FAILED,
                host="one.example",
                model="claude-x",
                set=Cooldown(NOON + 86_400_000, seconds=86_400.0, failures=3),
                attempts=[
                    Attempt(
                        1,
                        "first",
                        NOON,
                        1.0,
                        ok=False,
                        result="first_byte timeout",
                        timeout="first_byte",
                        timeout_seconds=30.0,
                        said=LONG,
                    )
                ],
            ),
            Candidate("held", Standing.PASSED_BY, held=Cooldown(NOON + 60_000, model="claude-x")),
            Candidate("busy", Standing.PASSED_BY, held=Cooldown(NOON, probe=True)),
            Candidate(
                "two",
                Standing.ANSWERED,
                host="two.example",
                model="other",
                attempts=[
                    Attempt(
                        2,
                        "failover",
                        NOON + 1000,
                        0.5,
                        ok=False,
                        repair=Repair(
                            "r", "x", "no", difference=Difference(words="removed 3 thinking blocks")
                        ),
                    ),
                    Attempt(3, "rectified", NOON + 1500, 0.5, ok=True, status=200),
                ],
            ),
            Candidate("three", Standing.NOT_NEEDED),
            Candidate("four", Standing.LEFT_OUT, why="disabled"),
        ],
    )


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = lines(story(), width, plain, UTC)
    assert max(map(len, shown)) <= width


def test_a_pipe_gets_whole_lines_without_bars() -> None:
    text = "\n".join(lines(story(), None, plain, UTC))
    assert LONG.strip() in text
    assert "█" not in text


def test_turns_stand_on_one_scale_of_time() -> None:
    shown = lines(story(), 80, plain, UTC)
    one, two = (line for line in shown if "█" in line)
    # A quarter each; the rest of the stream is drawn faint, to the end of the scale.
    assert one.count("█") == two.count("█")
    assert one.index("█") + one.count("█") == two.index("█")
    assert two.count("░") == pytest.approx(2 * two.count("█"), abs=1)
    assert "░" not in one


def test_the_words() -> None:
    text = "\n".join(lines(story(), None, plain, UTC))
    for words in (
        "Mon May 11 2026, 12:00:00 · claude-x · stream · 49.2 kB",
        "✗ 1  one",
        "asked first: no first event within 30.0 s (the first_byte timeout)",
        "→ left out for 1 d, until May 12 12:00:00: failed 3 times in a row",
        "cools down for claude-x until 12:01:00",
        "its cooldown is over, and another request was trying it",
        "at two.example, as other",
        "+1.00 s   asked next: failed after 0.50 s",
        "repaired by r: x, to no avail",
        "in the request: removed 3 thinking blocks",
        "asked again, repaired: 200, the first content after 0.50 s",
        "· 5  three  not needed\n·    four   disabled in the configuration",
        "12,000 in (10,000 from the cache), 321 out",
    ):
        assert words in text


def test_what_the_log_does_not_say_is_said() -> None:
    it = Explanation("x", unknown=["the beginning is gone"])
    assert "not in the log  the beginning is gone" in lines(it, 80, plain)[-1]
