"""`explain`: from a real request through a real proxy to the story of it."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

import httpx
import pytest

from ccfallback.cli.explain import story_lines
from ccfallback.events.explain import (
    Attempt,
    Candidate,
    Cooldown,
    Difference,
    Explanation,
    Failback,
    Repair,
    Standing,
)
from ccfallback.simulator import scripted
from tests.cli.conftest import Run
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 64_000, "stream": True, "messages": []}


def post(chain: Chain, request: str, **headers: str) -> None:
    """One request with an id of its own."""
    sent = {"ccr-request-id": request, **headers}
    with httpx.Client(timeout=30) as client:
        client.post(f"{chain.url}/v1/messages", json=ASK, headers=sent)


def only(ran: Any) -> dict[str, Any]:
    assert ran.code == 0
    assert list(ran.json) == ["request"]
    request: dict[str, Any] = ran.json["request"]
    return request


@pytest.fixture
def two_failovers(chain: Callable[..., Chain]) -> Chain:
    """Two requests: one past a limited primary and a repair, one past its cooldown."""
    limited = scripted.error(429, "rate_limit_error", "Slow down", {"retry-after": "600"})
    refused = scripted.error(
        400, "invalid_request_error", "max_tokens: 64000 > 8192, which is the maximum allowed"
    )
    running = chain(limited, [refused, scripted.reply("hello")], scripted.reply("unused"))
    post(running, "first-request")
    post(running, "second-request")
    post(running, "third-request", **{"x-ccf-debug-skip-anthropic": "1"})
    running.proxy.stop()
    return running


@pytest.mark.usefixtures("two_failovers")
def test_the_last_request_that_needed_more_than_one_attempt(ccf: Run) -> None:
    request = only(ccf("explain", "--json"))
    assert request["id"] == "first-request"
    primary, fallback, unused = request["candidates"]
    assert (primary["standing"], unused["standing"]) == ("failed", "not needed")
    (attempt,) = primary["attempts"]
    assert attempt["status"] == 429
    assert attempt["reset_hint"] == "retry-after"
    assert attempt["said"] == "Slow down"
    assert primary["set"]["seconds"] == pytest.approx(600, abs=5)
    assert primary["host"].startswith("127.0.0.1:")
    first, second = fallback["attempts"]
    assert first["repair"]["rectifier"] == "max_tokens"
    assert first["repair"]["applied"] is True
    assert "8192" in first["repair"]["changed"]
    assert first["repair"]["difference"]["rewritten"] == ["max_tokens"]
    assert first["repair"]["difference"]["words"] == "rewrote max_tokens"
    assert second["reason"] == "rectified"
    assert (request["provider"], request["status"], request["attempts"]) == ("fallback1", 200, 3)
    assert request["tokens"] == {"input": 12, "output": 7}
    assert request["client_saw"] == "200, a whole stream"
    assert request["unknown"] == []


@pytest.mark.usefixtures("two_failovers")
def test_the_evidence_of_a_cooldown_and_of_what_was_learned(ccf: Run) -> None:
    primary, fallback, _ = only(ccf("explain", "second", "--json"))["candidates"]
    assert primary["standing"] == "skipped"
    held = primary["held"]
    assert held["reason"] == "429 rate_limit_error"
    assert held["until"] - held["since"] == pytest.approx(600_000, abs=5000)
    assert fallback["attempts"][0]["prevented"] == ["max_tokens"]


@pytest.mark.usefixtures("two_failovers")
def test_a_provider_that_a_header_excludes_is_named(ccf: Run) -> None:
    request = only(ccf("explain", "--last", "--json"))
    assert request["id"] == "third-request"
    primary = request["candidates"][0]
    assert (primary["standing"], primary["why"]) == ("excluded", "header")


@pytest.mark.usefixtures("two_failovers")
def test_a_person_reads_the_whole_story(ccf: Run) -> None:
    out = ccf("explain").out
    for words in (
        "Request first-request",
        "1  anthropic-primary  failed",
        "429 rate_limit_error",
        "says its retry-after header",
        "cooling down for 10 min",
        "repaired by max_tokens",
        "which it accepted",
        "in the request: rewrote max_tokens",
        "answered by     fallback1, after 3 attempts",
        "client saw      200, a whole stream",
    ):
        assert words in out
    assert "\x1b" not in out


@pytest.mark.usefixtures("two_failovers")
def test_a_part_that_fits_several_says_so(ccf: Run) -> None:
    ran = ccf("explain", "request", "--json")
    assert only(ran)["id"] == "third-request"
    assert "2 other requests" in ran.err


def test_without_trouble_the_last_request_is_explained(
    ccf: Run, chain: Callable[..., Chain]
) -> None:
    running = chain(scripted.reply("hello"))
    post(running, "smooth")
    running.proxy.stop()
    ran = ccf("explain", "--json")
    assert only(ran)["id"] == "smooth"
    assert "no request needed more than one attempt" in ran.err


def test_a_missing_request_is_an_error_that_says_where_to_look(ccf: Run) -> None:
    ran = ccf("explain", "--json")
    assert ran.code == 1
    assert "no request is in the log" in ran.json["error"]["message"]
    ran = ccf("explain", "missing")
    assert ran.code == 1
    assert "logs tail" in ran.err


def test_an_id_and_last_exclude_each_other(ccf: Run) -> None:
    assert ccf("explain", "x", "--last").code == 2


def test_a_log_of_warnings_says_what_it_does_not_know(
    ccf: Run, chain: Callable[..., Chain]
) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("hello"))
    post(running, "quiet")
    running.proxy.stop()
    log = running.proxy.paths.log
    warnings = [line for line in log.read_bytes().splitlines(True) if b'"level":"warn"' in line]
    log.write_bytes(b"".join(warnings))
    out = ccf("explain").out
    assert "500 api_error" in out
    assert "not in the log" in out


# -- The story on the screen

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
                        timeout_seconds=9.2,
                        timeout_why="4 times its p99 of 2.3 s over 64 answers",
                        said=LONG,
                    )
                ],
            ),
            Candidate("held", Standing.SKIPPED, held=Cooldown(NOON + 60_000, model="claude-x")),
            Candidate("busy", Standing.SKIPPED, held=Cooldown(NOON, probe=True)),
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
            Candidate("four", Standing.EXCLUDED, why="disabled"),
        ],
    )


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = story_lines(story(), width, plain, UTC)
    assert max(map(len, shown)) <= width


def test_a_pipe_gets_whole_lines_without_bars() -> None:
    text = "\n".join(story_lines(story(), None, plain, UTC))
    assert LONG.strip() in text
    assert "█" not in text


def test_candidates_share_one_time_scale() -> None:
    shown = story_lines(story(), 80, plain, UTC)
    one, two = (line for line in shown if "█" in line and "waiting" not in line)
    # A quarter each; the rest of the stream is drawn faint, to the end of the scale.
    assert one.count("█") == two.count("█")
    assert one.index("█") + one.count("█") == two.index("█")
    assert "over time       █ waiting  ░ answering" in "\n".join(shown)
    assert two.count("░") == pytest.approx(2 * two.count("█"), abs=1)
    assert "░" not in one


def test_the_words_of_a_story() -> None:
    text = "\n".join(story_lines(story(), None, plain, UTC))
    for words in (
        "Mon May 11 2026, 12:00:00 · claude-x · stream · 49.2 kB",
        "✗ 1  one",
        "tried first: no first event within 9.20 s (4 times its p99 of 2.3 s over 64 answers)",
        "→ cooling down for 1 d, until May 12 12:00:00: 3 failures in a row",
        "cooling down for claude-x until 12:01:00",
        "its cooldown is over, and another request was probing it",
        "at two.example, as other",
        "+1.00 s   tried next: failed after 0.50 s",
        "repaired by r: x, which did not help",
        "in the request: removed 3 thinking blocks",
        "tried again, repaired: 200, the first content after 0.50 s",
        "· 5  three  not needed\n·    four   disabled in the configuration",
        "12,000 in (10,000 from the cache), 321 out",
    ):
        assert words in text


def test_a_story_says_what_the_log_does_not() -> None:
    it = Explanation("x", unknown=["the beginning is gone"])
    assert "not in the log  the beginning is gone" in story_lines(it, 80, plain)[-1]


STOP = Candidate(
    "anthropic-primary",
    Standing.STOPPED,
    attempts=[Attempt(1, "first", 0, seconds=0.31, ok=True, status=200)],
)


@pytest.mark.parametrize("width", [80, 140, None])
def test_a_stopped_answer_is_not_a_failure(width: int | None) -> None:
    it = Explanation("r", candidates=[STOP], provider=STOP.provider, seconds=3.69, stopped=True)
    painted = story_lines(it, width, lambda text, style: f"<{style}>{text}" if style else text)
    text = " ".join(" ".join(story_lines(it, width, plain)).split())
    assert "· 1 anthropic-primary was answering, first content after 0.31 s;" in text
    assert "you stopped it after 3.69 s" in text
    assert "<red>" not in "".join(painted)
    assert "no provider" not in text


def test_a_stop_before_the_answer() -> None:
    tried = Candidate("one", Standing.STOPPED, attempts=[Attempt(1, "first", 0)])
    text = "\n".join(story_lines(Explanation("r", candidates=[tried], seconds=2.0), None, plain))
    assert "one  was being tried; you stopped it after 2.00 s" in text


@pytest.mark.parametrize(
    ("failback", "words"),
    [
        (
            Failback("stay", "bedrock", "anthropic-primary", "warm-cache", 120.0, 148_000),
            "stayed with bedrock: its cache is warm, 2 min old; going back to anthropic-primary "
            "would re-read about 148k tokens",
        ),
        (
            Failback("stay", "bedrock", "anthropic-primary", "warm-cache", 120.0, 148_000, 0.925),
            "stayed with bedrock: its cache is warm, 2 min old; going back to anthropic-primary "
            "would re-read about 148k tokens, about $0.93",
        ),
        (
            Failback("stay", "bedrock", "anthropic-primary", "warm-cache"),
            "stayed with bedrock: its cache is warm; going back to anthropic-primary would find a "
            "cold cache",
        ),
        (
            Failback("return", "bedrock", "spare", "pause", 360.0),
            "came from spare: its cache is cold after a pause of 6 min",
        ),
        (
            Failback("return", "bedrock", "spare", "warm-cache", 60.0),
            "came from spare: the cache here is still warm",
        ),
        (
            Failback("return", "bedrock", "spare", "unavailable", 60.0, why="spend-cap"),
            "came from spare: it has reached its cap of money",
        ),
        (
            Failback("return", "bedrock", "spare", "unavailable", 60.0, why="route"),
            "came from spare: it is not available (route)",
        ),
        (
            Failback("return", "bedrock", "spare", "unavailable", 60.0),
            "came from spare: it is not available",
        ),
        (Failback("return", "bedrock", "spare", "later"), "came from spare: later"),
    ],
)
def test_why_a_session_stays_or_goes_back(failback: Failback, words: str) -> None:
    candidates = [Candidate("bedrock", Standing.ANSWERED), Candidate("spare", Standing.NOT_NEEDED)]
    it = Explanation("x", candidates=candidates, failback=failback)
    lines = story_lines(it, None, lambda text, _: text)
    assert [line.strip() for line in lines].count(words) == 1


def test_what_claude_code_says_of_a_request_is_shown() -> None:
    it = Explanation("x", model="m", session="0a1b2c", request_class="subagent", agent="Explore")
    assert story_lines(it, None, lambda text, _: text)[1] == "m · subagent Explore · session 0a1b2c"
