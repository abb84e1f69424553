"""`explain`: from a real request through a real proxy to the story of it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

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
def told(chain: Callable[..., Chain]) -> Chain:
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


@pytest.mark.usefixtures("told")
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


@pytest.mark.usefixtures("told")
def test_the_evidence_of_a_cooldown_and_of_what_was_learned(ccf: Run) -> None:
    primary, fallback, _ = only(ccf("explain", "second", "--json"))["candidates"]
    assert primary["standing"] == "passed by"
    held = primary["held"]
    assert held["reason"] == "429 rate_limit_error"
    assert held["until"] - held["since"] == pytest.approx(600_000, abs=5000)
    assert fallback["attempts"][0]["prevented"] == ["max_tokens"]


@pytest.mark.usefixtures("told")
def test_who_was_left_out_by_a_header_is_named(ccf: Run) -> None:
    request = only(ccf("explain", "--last", "--json"))
    assert request["id"] == "third-request"
    primary = request["candidates"][0]
    assert (primary["standing"], primary["why"]) == ("left out", "header")


@pytest.mark.usefixtures("told")
def test_a_person_reads_the_whole_story(ccf: Run) -> None:
    out = ccf("explain").out
    for words in (
        "Request first-request",
        "1  anthropic-primary  failed",
        "429 rate_limit_error",
        "says its retry-after header",
        "left out for 10 min",
        "repaired by max_tokens",
        "which it took",
        "in the request: rewrote max_tokens",
        "answered by     fallback1, after 3 attempts",
        "client saw      200, a whole stream",
    ):
        assert words in out
    assert "\x1b" not in out


@pytest.mark.usefixtures("told")
def test_a_part_that_fits_several_says_so(ccf: Run) -> None:
    ran = ccf("explain", "request", "--json")
    assert only(ran)["id"] == "third-request"
    assert "2 other requests" in ran.err


def test_where_nothing_went_wrong_the_last_request_is_told(
    ccf: Run, chain: Callable[..., Chain]
) -> None:
    running = chain(scripted.reply("hello"))
    post(running, "smooth")
    running.proxy.stop()
    ran = ccf("explain", "--json")
    assert only(ran)["id"] == "smooth"
    assert "no request needed more than one attempt" in ran.err


def test_what_is_not_there_is_an_error_that_says_where_to_look(ccf: Run) -> None:
    ran = ccf("explain", "--json")
    assert ran.code == 1
    assert "no request is in the log" in ran.json["error"]["message"]
    ran = ccf("explain", "nobody")
    assert ran.code == 1
    assert "logs tail" in ran.err


def test_an_id_and_last_exclude_each_other(ccf: Run) -> None:
    assert ccf("explain", "x", "--last").code == 2


def test_with_warnings_only_it_says_what_it_does_not_know(
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
