"""The story of a request, made of its records; some may be missing, others may be nonsense."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.explain import Difference, Explanation, Failback, Standing, difference
from ccfallback.events.explain import explain as explain_records
from ccfallback.events.records import RectifierAttempt, all_printable, record_from

ID = "ccr-1715432100000_k3f9x2a"
DAY = "2026-05-11T14:20:"


def explain(lines: Sequence[Mapping[str, Any]]) -> Explanation:
    return explain_records([record_from(line) for line in lines])


def line(event: str, second: float = 0.0, level: str = "info", **data: Any) -> dict[str, Any]:
    """A record of the request."""
    return {
        "timestamp": f"{DAY}{second:06.3f}Z",
        "level": level,
        "event": event,
        "message": data.pop("message", ""),
        "requestId": ID,
        "data": data,
    }


def start(*chain: str, **left_out: str) -> dict[str, Any]:
    return line(
        "request.start",
        model="claude-x",
        stream=True,
        bytes=49_200,
        chain=list(chain),
        leftOut=left_out,
    )


def attempted(provider: str, number: int, second: float, reason: str = "first") -> dict[str, Any]:
    return line(
        "provider.attempt",
        second,
        provider=provider,
        attempt=number,
        reason=reason,
        host=f"{provider}.example",
        model=f"{provider}-model",
    )


def failed(provider: str, number: int, second: float, **data: Any) -> dict[str, Any]:
    return line(
        "provider.failure",
        second,
        "warn",
        **{
            "provider": provider,
            "attempt": number,
            "status": 529,
            "ms": 310.0,
            "fault": "overloaded",
            "reason": "529 overloaded_error",
            "error": "Overloaded",
            "until": None,
            "hint": None,
            **data,
        },
    )


def success(provider: str, number: int, second: float, **data: Any) -> dict[str, Any]:
    return line(
        "provider.success", second, provider=provider, attempt=number, status=200, ms=50.0, **data
    )


def complete(provider: str, attempts: int) -> dict[str, Any]:
    return line(
        "request.complete",
        3.0,
        provider=provider,
        model="claude-x",
        status=200,
        latency=3000.0,
        ttft=900.0,
        attempts=attempts,
        inputTokens=100,
        outputTokens=20,
        cacheReadTokens=1000,
        cacheWriteTokens=None,
        stream=True,
    )


FAILOVER = [
    start("one", "two", "three", spare="disabled"),
    attempted("one", 1, 0.1),
    failed("one", 1, 0.4, until=1_778_509_800_000, hint="retry-after"),
    attempted("two", 2, 0.5, "failover"),
    success("two", 2, 0.6),
    complete("two", 2),
]


def test_each_candidate_has_its_place_and_its_evidence() -> None:
    it = explain(FAILOVER)
    one, two, three, spare = it.candidates
    assert [each.standing for each in it.candidates] == [
        Standing.FAILED,
        Standing.ANSWERED,
        Standing.NOT_NEEDED,
        Standing.EXCLUDED,
    ]
    (attempt,) = one.attempts
    assert (attempt.status, attempt.seconds, attempt.fault) == (529, 0.31, "overloaded")
    assert (attempt.result, attempt.said) == ("529 overloaded_error", "Overloaded")
    assert (attempt.reset_at, attempt.reset_hint) == (1_778_509_800_000, "retry-after")
    assert (two.host, two.model, two.attempts[0].ok) == ("two.example", "two-model", True)
    assert three.attempts == []
    assert spare.why == "disabled"
    assert (it.id, it.provider, it.status, it.attempts) == (ID, "two", 200, 2)
    assert (it.seconds, it.ttft) == (3.0, 0.9)
    assert it.tokens == {"input": 100, "output": 20, "cache_read": 1000}
    assert it.client_saw == "200, a whole stream"
    assert it.complete
    assert it.unknown == []


def test_a_provider_that_is_skipped_and_tried_at_last_has_two_turns() -> None:
    skip = line(
        "circuit_breaker.skip",
        provider="one",
        cooldownUntil=1_778_509_800_000,
        since=1_778_509_200_000,
        reason="429 rate_limit_error",
        failures=3,
        model=None,
        probe=False,
    )
    it = explain(
        [
            start("one", "two"),
            skip,
            attempted("two", 1, 0.1),
            failed("two", 1, 0.2),
            line("safety_valve.triggered", 0.2, "warn", provider="one"),
            attempted("one", 2, 0.3, "safety-valve"),
            success("one", 2, 0.5),
            line("circuit_breaker.reset", 0.6, provider="one", by="success"),
            complete("one", 2),
        ]
    )
    assert [(each.provider, each.standing) for each in it.candidates] == [
        ("one", Standing.SKIPPED),
        ("two", Standing.FAILED),
        ("one", Standing.ANSWERED),
    ]
    first, _, last = it.candidates
    assert first.held is not None
    assert (first.held.until, first.held.since) == (1_778_509_800_000, 1_778_509_200_000)
    assert (first.held.reason, first.held.failures) == ("429 rate_limit_error", 3)
    assert last.attempts[0].reason == "safety-valve"
    assert last.recovered


def test_each_key_of_a_provider_has_its_place() -> None:
    story = explain(
        [
            start("a", "b"),
            line("circuit_breaker.skip", provider="a", key=1, reason="429"),
            {**attempted("a", 1, 0.1), "data": {**attempted("a", 1, 0.1)["data"], "key": 2}},
            {**failed("a", 1, 0.2), "data": {**failed("a", 1, 0.2)["data"], "key": 2}},
            attempted("b", 2, 0.3, "failover"),
            success("b", 2, 0.4),
            complete("b", 2),
        ]
    )
    found = [(each.label, each.standing) for each in story.candidates]
    assert found == [
        ("a key 1", Standing.SKIPPED),
        ("a key 2", Standing.FAILED),
        ("b", Standing.ANSWERED),
    ]


def test_a_provider_that_is_too_small_is_skipped_without_a_cooldown() -> None:
    skip = line("circuit_breaker.skip", provider="a", reason="too-long")
    story = explain([start("a", "b"), skip, attempted("b", 1, 0.1), success("b", 1, 0.2)])
    small = story.candidates[0]
    assert (small.provider, small.standing) == ("a", Standing.SKIPPED)
    assert (small.why, small.held) == ("too-long", None)


def test_a_provider_that_has_reached_its_cap_is_skipped() -> None:
    capped = line("spend.cap", provider="a", period="day", cap=5.0, spent=5.1)
    story = explain([start("a", "b"), capped, attempted("b", 1, 0.1), success("b", 1, 0.2)])
    first = story.candidates[0]
    assert (first.provider, first.standing, first.why) == ("a", Standing.SKIPPED, "spend-cap")


def test_a_repair_belongs_to_the_refusal_it_is_for() -> None:
    it = explain(
        [
            start("one"),
            attempted("one", 1, 0.1),
            failed("one", 1, 0.2, status=400, reason="400 invalid_request_error"),
            line("rectifier.attempt", provider="one", rectifier="r", changed="x", error="no x"),
            attempted("one", 2, 0.3, "rectified"),
            success("one", 2, 0.4, prevented=["known"]),
            line("rectifier.applied", provider="one", rectifier="r", changed="x", learned=True),
            complete("one", 2),
        ]
    )
    refused, taken = it.candidates[0].attempts
    assert refused.repair is not None
    assert (refused.repair.rectifier, refused.repair.changed) == ("r", "x")
    assert refused.repair.refusal == "no x"
    assert refused.repair.applied
    assert taken.repair is None
    assert taken.prevented == ["known"]


def test_the_timeout_that_fired_is_named() -> None:
    late = line(
        "provider.timeout",
        0.9,
        "warn",
        provider="one",
        attempt=1,
        status=None,
        ms=800.0,
        fault="timeout",
        reason="first_byte timeout",
        timeout="first_byte",
        seconds=0.8,
        why="its answers are quick",
    )
    cooling = line(
        "circuit_breaker.cooldown",
        0.9,
        "warn",
        provider="one",
        model=None,
        cooldownUntil=1_778_509_230_000,
        seconds=30.0,
        failures=1,
        reason="first_byte timeout",
        hint=None,
    )
    (one,) = explain([start("one"), attempted("one", 1, 0.1), late, cooling]).candidates
    assert (one.attempts[0].timeout, one.attempts[0].timeout_seconds) == ("first_byte", 0.8)
    assert one.attempts[0].timeout_why == "its answers are quick"
    assert one.set is not None
    assert (one.set.seconds, one.set.failures) == (30.0, 1)


def torn(**data: Any) -> list[dict[str, Any]]:
    return [
        start("one"),
        attempted("one", 1, 0.1),
        success("one", 1, 0.2),
        line("provider.failure", 0.9, "warn", provider="one", fault="torn", reason="stream cut"),
        line("request.error", 1.0, "warn", **{"provider": "one", "attempts": 1, **data}),
    ]


def test_an_answer_that_broke_off_does_not_count_as_an_answer() -> None:
    it = explain(torn(status=200, error="stream cut"))
    assert it.candidates[0].standing is Standing.BROKE_OFF
    assert not it.complete
    assert "dropped connection" in it.client_saw


@pytest.mark.parametrize("answering", [True, False])
def test_a_client_that_leaves_has_stopped_the_provider(answering: bool) -> None:
    lines = [start("one", "two"), attempted("one", 1, 0.1)]
    lines += [success("one", 1, 0.2)] if answering else []
    provider = "one" if answering else None
    stop = {"status": 499, "provider": provider, "attempts": 1, "error": "client disconnected"}
    it = explain([*lines, line("request.error", 1.0, "info", **stop)])
    assert [each.standing for each in it.candidates] == [Standing.STOPPED, Standing.NOT_NEEDED]
    assert it.stopped
    assert not it.complete


def test_a_failure_before_the_client_left_stays_a_failure() -> None:
    stop = line("request.error", 1.0, "info", status=499, attempts=2)
    it = explain([start("one", "two"), attempted("one", 1, 0.1), failed("one", 1, 0.4),
                  attempted("two", 2, 0.5), stop])  # fmt: skip
    assert [each.standing for each in it.candidates] == [Standing.FAILED, Standing.STOPPED]


def test_only_the_provider_that_is_tried_is_in_progress() -> None:
    it = explain([start("one", "two", "three"), attempted("one", 1, 0.1)])
    names = [each.standing for each in it.candidates]
    assert names == [Standing.IN_PROGRESS, Standing.NOT_TRIED, Standing.NOT_TRIED]
    it = explain([start("one", "two"), attempted("one", 1, 0.1), success("one", 1, 0.2)])
    assert [each.standing for each in it.candidates] == [Standing.ANSWERED, Standing.NOT_NEEDED]


def seen(status: int, error: str | None, provider: str | None = None, message: str = "") -> str:
    end = line(
        "request.error",
        1.0,
        "warn",
        status=status,
        error=error,
        provider=provider,
        attempts=1,
        message=message,
    )
    return explain([start("one"), attempted("one", 1, 0.1), failed("one", 1, 0.4), end]).client_saw


def test_what_the_client_saw_when_no_provider_answered() -> None:
    assert seen(400, "400 invalid_request_error", "one") == "one's own 400, as it came"
    assert seen(499, "client disconnected") == "nothing more: it had disconnected"
    exhausted = "no answer after 1.20 s: All providers failed: one (529)"
    assert (
        seen(502, "fallback_exhausted", message=exhausted)
        == "502 fallback_exhausted: All providers failed: one (529)"
    )


def test_the_headers_that_tell_the_client_when_to_try_again() -> None:
    end = line(
        "request.error",
        1.0,
        "warn",
        status=502,
        error="fallback_exhausted",
        message="no answer after 1.20 s: all failed",
        told={"retry-after": "7", "cookie": "not shown"},
    )
    assert explain([end]).client_saw == "502 fallback_exhausted (retry-after: 7): all failed"


def test_a_forwarded_refusal_is_not_a_failure_of_the_chain() -> None:
    end = line("request.error", 1.0, "warn", status=400, error="400", provider="one", attempts=1)
    it = explain([start("one"), attempted("one", 1, 0.1), failed("one", 1, 0.4), end])
    assert it.candidates[0].standing is Standing.FORWARDED


def test_a_log_that_was_rotated_past_the_beginning_still_tells_the_rest() -> None:
    it = explain(FAILOVER[2:])
    assert [each.provider for each in it.candidates] == ["one", "two"]
    assert it.candidates[0].attempts[0].result == "529 overloaded_error"
    # The end says how long it took, so that its beginning is known.
    assert it.began == explain(FAILOVER).began
    assert it.unknown == ["the beginning: the log was rotated past it"]


def test_a_log_of_warnings_says_what_it_does_not_know() -> None:
    it = explain([record for record in FAILOVER if record["level"] == "warn"])
    assert it.candidates[0].standing is Standing.FAILED
    assert it.attempts == 1
    (unknown,) = it.unknown
    assert "all but warnings" in unknown


def test_a_request_without_an_end_is_in_progress() -> None:
    it = explain(FAILOVER[:2])
    assert it.candidates[0].standing is Standing.IN_PROGRESS
    assert it.candidates[1].standing is Standing.NOT_TRIED
    (unknown,) = it.unknown
    assert "in progress" in unknown


def test_a_request_that_was_refused_at_the_gate_has_no_beginning() -> None:
    end = line("request.error", 0.1, "warn", status=413, error="request_too_large", attempts=0)
    assert explain([end]).unknown == []
    gate = line("auth.failure", 0.1, "warn", status=401, path="/v1/messages", message="no token")
    it = explain([gate])
    assert it.client_saw == "401: no token"
    assert it.unknown == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = sorted({key for record in [*FAILOVER, *torn(status=200)] for key in record["data"]})
EVENTS = sorted({record["event"] for record in FAILOVER} | {"circuit_breaker.skip", "other"})


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(EVENTS) | JSON, "timestamp": JSON, "requestId": JSON},
            optional={"data": st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5) | JSON},
        ),
        max_size=6,
    )
)
def test_no_log_makes_it_raise(records: list[Mapping[str, Any]]) -> None:
    assert isinstance(explain(records), Explanation)


# -- What a repair changed

DIFFERENCE_KEYS = ("removed", "added", "rewritten", "betas", "counts", "renamed", "quirks")


def repaired(data: dict[str, Any]) -> Difference:
    event = record_from({"event": "rectifier.attempt", "data": data}).data
    assert isinstance(event, RectifierAttempt)
    return difference(all_printable(event))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, ""),
        ({"removed": ["top_k"]}, "removed field top_k"),
        ({"removed": ["top_k", "speed"], "betas": ["fast-mode-1"]}, "removed fields top_k, speed, "
         "beta fast-mode-1"),
        ({"betas": ["a-1", "b-2"]}, "removed betas a-1, b-2"),
        (
            {"rewritten": ["messages"], "counts": {"system_messages": -1, "thinking": -3}},
            "removed 1 system message, 3 thinking blocks",
        ),
        (
            {"rewritten": ["messages", "system"], "counts": {"system_messages": -2, "text": 1}},
            "removed 2 system messages; added 1 text block; rewrote system",
        ),
        ({"rewritten": ["messages"]}, "rewrote messages"),
        ({"added": ["tools"], "renamed": 1}, "added field tools; renamed 1 tool"),
        ({"renamed": 2, "quirks": ["sampling", "top_k"]}, "renamed 2 tools; switched sampling, "
         "top_k"),
    ],
)  # fmt: skip
def test_a_difference_in_words(data: dict[str, Any], words: str) -> None:
    assert repaired(data).words == words


def test_a_difference_in_numbers() -> None:
    it = repaired({"betas": ["a-1"], "counts": {"thinking": -3}, "renamed": 2})
    assert (it.betas, it.counts, it.renamed, it.quirks) == (["a-1"], {"thinking": -3}, 2, [])


def test_a_difference_is_printable() -> None:
    it = repaired({"removed": ["\x1b[2J"], "counts": {"a\nb": 1}})
    assert it.words.isprintable()


@given(st.dictionaries(st.sampled_from(DIFFERENCE_KEYS), JSON))
def test_a_nonsensical_difference_is_not_an_error(data: dict[str, Any]) -> None:
    it = repaired(data)
    assert bool(it.words) == any(
        (it.removed, it.added, it.rewritten, it.betas, it.counts, it.renamed, it.quirks)
    )


def test_what_claude_code_says_of_a_request() -> None:
    event = start("one")
    event["data"] |= {"class": "subagent", "agent": "Explore", "session": "0a1b2c3d4e5f"}
    it = explain([event])
    assert (it.request_class, it.agent, it.session) == ("subagent", "Explore", "0a1b2c3d4e5f")


@pytest.mark.parametrize(
    ("event", "decision", "other"),
    [
        (
            line("failback.stay", provider="one", first="two", age=120.0, tokens=148_000),
            ("stay", "one", "two", "warm-cache", 120.0, 148_000),
            Standing.NOT_NEEDED,
        ),
        (
            line("failback.return", provider="one", left="two", reason="pause", age=400.0),
            ("return", "one", "two", "pause", 400.0, None),
            Standing.NOT_NEEDED,
        ),
        (
            line(
                "failback.return", provider="one", left="two", reason="unavailable", why="disabled"
            ),
            ("return", "one", "two", "unavailable", None, None, None, "disabled"),
            Standing.NOT_NEEDED,
        ),
    ],
)
def test_what_was_decided_about_a_session(
    event: dict[str, Any], decision: tuple[Any, ...], other: Standing
) -> None:
    it = explain([start("two", "one"), event, attempted("one", 1, 0.0), success("one", 1, 0.1)])
    assert it.failback == Failback(*decision)
    assert [(each.provider, each.standing) for each in it.candidates][1:] == [("two", other)]
