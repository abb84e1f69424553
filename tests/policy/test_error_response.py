"""The error that the client gets when no provider could answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import KeySource, Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.policy.context_window import TooLong
from ccfallback.policy.error_response import (
    ErrorResponse,
    Failure,
    exhausted_response,
    format_wait,
    no_fallback_response,
    search_unavailable,
    spend_warning,
)
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.policy.spend import NANO, Limit
from ccfallback.redact import Secret

NOW = 1_700_000_000.0
HOUR = 3600.0

KEY = Outcome(Fault.ACCOUNT, "401 authentication_error", 401)
CREDIT = Outcome(Fault.ACCOUNT, "400 invalid_request_error", 400)
RENEWED = Outcome(Fault.OLD_LOGIN, "401 authentication_error", 401)
BUSY = Outcome(Fault.OVERLOADED, "529 overloaded_error", 529)
QUOTA = Outcome(Fault.THROTTLED, "429 rate_limit_error", 429, until=NOW + 3 * HOUR)
BURST = Outcome(Fault.THROTTLED, "429 rate_limit_error", 429, until=NOW + 30)
EDGE = Outcome(Fault.THROTTLED, "429 rate_limit_error", 429, until=NOW + 900)
DOWN = Outcome(Fault.TRANSPORT, "connection refused")
OFFLINE = Outcome(Fault.UNREACHABLE, "no name resolution")
TOO_LONG = Outcome(Fault.REQUEST, "400", 400, "Your prompt is too long: 9 tokens > 8 maximum")


def failure(provider: str, outcome: Outcome) -> Failure:
    is_primary = provider == "a"
    return Failure(Provider(name=provider, base_url="", primary=is_primary), outcome)


def verdict(
    failures: Sequence[Failure],
    cooling: Mapping[str, float] | None = None,
    too_long: TooLong | None = None,
) -> ErrorResponse:
    return exhausted_response(
        failures,
        cooling or {},
        model="m",
        request_id="id",
        now=NOW,
        too_long=too_long or TooLong(),
    )


def limit(name: str, *, spent: float = 5.0, reserved: float = 0.0, ends: float = 9.0) -> Limit:
    """A cap of $5.00 a day, which ends in so many hours."""
    amounts = (round(spent * NANO), NOW + ends * HOUR, round(reserved * NANO))
    return Limit(name, "day", 5 * NANO, *amounts)


CAPPED = limit("b")
RESERVED = limit("c", spent=4.0, reserved=1.0)


@pytest.mark.parametrize(
    ("outcome", "cooling", "capped", "status", "headers"),
    [
        # Nothing but caps, or a primary that is refused for hours or until a person acts.
        (None, {}, [CAPPED], 429, {"x-should-retry": "false", "retry-after": "32400"}),
        (KEY, {}, [CAPPED], 429, {"x-should-retry": "false", "retry-after": "32400"}),
        (CREDIT, {}, [CAPPED], 429, {"x-should-retry": "false", "retry-after": "32400"}),
        (
            QUOTA,
            {"a": 3 * HOUR},
            [CAPPED],
            429,
            {"x-should-retry": "false", "retry-after": "10800"},
        ),
        (None, {"a": 2 * HOUR}, [CAPPED], 429, {"x-should-retry": "false", "retry-after": "7200"}),
        (None, {"b": 20.0}, [CAPPED], 429, {"x-should-retry": "false", "retry-after": "32400"}),
        (KEY, {}, [limit("b", ends=0.01)], 429, {"x-should-retry": "false", "retry-after": "36"}),
        # The primary is back in a moment, so Claude Code tries again.
        (BUSY, {}, [CAPPED], 502, {}),
        (DOWN, {}, [CAPPED], 502, {}),
        (BURST, {"a": 30.0}, [CAPPED], 502, {"retry-after": "30"}),
        (BUSY, {"a": 30.0}, [CAPPED], 502, {"retry-after": "30"}),
        (BUSY, {"a": 30.0, "b": 10.0}, [CAPPED], 502, {"retry-after": "30"}),
        (None, {"a": 45.0}, [CAPPED], 502, {"retry-after": "45"}),
        (BUSY, {}, [limit("b", ends=0.01)], 502, {"retry-after": "36"}),
        # What is reserved may be free in a moment.
        (None, {}, [RESERVED], 429, {"retry-after": "10"}),
        (None, {}, [CAPPED, RESERVED], 429, {"retry-after": "10"}),
        (QUOTA, {"a": 3 * HOUR}, [RESERVED], 502, {}),
        (BUSY, {}, [CAPPED, RESERVED], 502, {}),
    ],
)
def test_a_cap_ends_the_turn_only_if_nothing_else_is_back_soon(
    outcome: Outcome | None,
    cooling: dict[str, float],
    capped: list[Limit],
    status: int,
    headers: dict[str, str],
) -> None:
    given = exhausted_response(
        [] if outcome is None else [failure("a", outcome)],
        {name: NOW + seconds for name, seconds in cooling.items()},
        model="m",
        request_id="id",
        now=NOW,
        capped=capped,
    )
    assert given.status == status
    told = {name.decode(): value.decode() for name, value in given.headers}
    assert {
        name: told[name] for name in told if name in ("retry-after", "x-should-retry")
    } == headers
    assert ("anthropic-ratelimit-unified-status" in told) == (told.get("x-should-retry") == "false")
    kinds = {429: ("billing_error", "rate_limit_error"), 502: ("fallback_exhausted",)}
    assert given.kind in kinds[status]
    for each in capped:
        spent = (
            f"{each.provider} (${each.spent / NANO:.2f} of its cap of $5.00 a day has been spent"
        )
        assert spent in given.message
    if outcome is not None:
        assert f"a ({outcome.reason}" in given.message


def test_a_prompt_that_is_too_long_is_compacted_rather_than_refused_for_a_cap() -> None:
    refused = [failure("c", TOO_LONG)]
    given = exhausted_response(refused, {}, model="m", request_id="i", now=NOW, capped=[CAPPED])
    assert (given.status, given.kind) == (400, "invalid_request_error")


def error_of(verdict: ErrorResponse) -> dict[str, Any]:
    error: dict[str, Any] = msgspec.json.decode(verdict.body)["error"]
    return error


def test_the_envelope_lists_how_each_provider_failed() -> None:
    given = verdict([failure("a", BUSY), failure("b", DOWN)], {"b": NOW + 100})
    assert given.status == 502
    assert msgspec.json.decode(given.body) == {
        "type": "error",
        "request_id": "id",
        "error": {
            "type": "fallback_exhausted",
            "message": "All providers failed: a (529 overloaded_error);"
            " b (connection refused, back in 2 min) [CCF-E107]",
            "code": "CCF-E107",
            "model": "m",
            "attempts": [
                {"provider": "a", "status": 529, "error": "529 overloaded_error"},
                {"provider": "b", "status": None, "error": "connection refused"},
            ],
        },
    }
    assert given.kind == "fallback_exhausted"
    assert f"{given.message} [CCF-E107]" == error_of(given)["message"]


@pytest.mark.parametrize(
    ("status", "kind", "fault", "told"),
    [
        (400, "invalid_request_error", Fault.ACCOUNT, ", about the account's credit or plan"),
        (402, "billing_error", Fault.ACCOUNT, ", about the account's credit or plan"),
        (401, "authentication_error", Fault.ACCOUNT, ""),
        (529, "overloaded_error", Fault.OVERLOADED, ""),
    ],
)
def test_the_message_says_that_the_account_is_meant(
    status: int, kind: str, fault: Fault, told: str
) -> None:
    given = verdict([failure("a", Outcome(fault, f"{status} {kind}", status))], {})
    assert f"a ({status} {kind}{told})" in given.message
    assert error_of(given)["attempts"][0]["error"] == f"{status} {kind}"


def test_the_message_names_a_skipped_provider() -> None:
    message = verdict([failure("a", BUSY)], {"b": NOW + 7200}).message
    assert "b (cooling down after earlier failures, back in 2.0 h)" in message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (30.0000002, "30 s"),
        (30.001, "31 s"),
        (89.9, "90 s"),
        (90, "2 min"),
        (3000, "50 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (36000, "10.0 h"),
        (3600 * 3000, "3000.0 h"),
    ],
)
def test_a_time_to_wait_is_rounded_up(seconds: float, text: str) -> None:
    assert format_wait(seconds) == text


def test_two_unreachable_providers_mean_that_this_machine_is_offline() -> None:
    assert "offline" in verdict([failure("a", OFFLINE), failure("b", OFFLINE)]).message
    assert "offline" not in verdict([failure("a", OFFLINE), failure("b", DOWN)]).message
    assert "offline" not in verdict([failure("a", OFFLINE)]).message


RETRY = [
    ("no provider cools down", [BUSY, BUSY], {}, ()),
    ("back in a moment", [BUSY], {"a": NOW + 12.2}, ((b"retry-after", b"13"),)),
    ("back at once", [BUSY], {"a": NOW + 0.1}, ((b"retry-after", b"1"),)),
    ("back in a minute", [BUSY], {"a": NOW + 60}, ((b"retry-after", b"60"),)),
    ("back in more than a minute", [BUSY], {"a": NOW + 60.5}, ()),
    ("already back", [BUSY], {"a": NOW - 5}, ()),
    ("the first counts", [BUSY, BUSY], {"a": NOW + 900, "b": NOW + 9}, ((b"retry-after", b"9"),)),
    ("keys refused, credit gone", [KEY, CREDIT], {}, ((b"x-should-retry", b"false"),)),
    (
        "quota windows",
        [QUOTA, QUOTA],
        {"a": NOW + 3 * HOUR, "b": NOW + 3 * HOUR},
        ((b"x-should-retry", b"false"),),
    ),
    ("one of them only busy", [KEY, BUSY], {}, ()),
    ("one of them back soon", [KEY, BURST], {"b": NOW + 30}, ((b"retry-after", b"30"),)),
    ("hopeless, but one is back soon", [KEY], {"c": NOW + 30}, ((b"retry-after", b"30"),)),
    ("hopeless, but one cools down for minutes", [KEY], {"c": NOW + 300}, ()),
    ("hopeless, and one cools down for hours", [KEY], {"c": NOW + 3 * HOUR},
     ((b"x-should-retry", b"false"),)),
    ("a login that the client renews", [RENEWED], {"b": NOW + 3 * HOUR}, ()),
    ("such a login, and no credit", [RENEWED, CREDIT], {}, ()),
    ("no provider was tried", [], {}, ()),
    ("a window of just a quarter of an hour", [EDGE], {"c": NOW + 900},
     ((b"x-should-retry", b"false"),)),
    ("a window of less than that", [replace(EDGE, until=NOW + 899)], {}, ()),
    ("back right now", [BUSY], {"a": NOW}, ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "cooling", "headers"), [row[1:] for row in RETRY], ids=[row[0] for row in RETRY]
)
def test_whether_the_client_should_retry(
    outcomes: list[Outcome], cooling: dict[str, float], headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    failures = [failure("abc"[index], outcome) for index, outcome in enumerate(outcomes)]
    assert verdict(failures, cooling).headers == headers


def test_a_prompt_that_is_too_long_for_a_fallback_lets_the_client_compact() -> None:
    given = verdict([failure("a", QUOTA), failure("b", TOO_LONG)], {"a": NOW + 3 * HOUR})
    assert given.status == 400
    assert error_of(given) == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 9 tokens > 8 maximum",
        "code": "CCF-E108",
    }
    assert given.headers == ()


def test_a_413_of_a_fallback_means_that_the_prompt_is_too_long() -> None:
    large = Outcome(Fault.REQUEST, "413", 413, "")
    assert verdict([failure("a", KEY), failure("b", large)]).status == 400


E500 = Outcome(Fault.UPSTREAM, "500 api_error", 500)
E429 = Outcome(Fault.THROTTLED, "429 rate_limit_error", 429)
MODEL_429 = Outcome(Fault.MODEL_THROTTLED, "429 rate_limit_error", 429)
UNKNOWN = Outcome(Fault.UNKNOWN_MODEL, "404 not_found_error", 404)
A_MINUTE = Outcome(Fault.OVERLOADED, "529 overloaded_error", 529, until=NOW + 60)
LATE = Outcome(Fault.TIMEOUT, "first_byte timeout")
DOWN_FOR_HOURS = Outcome(Fault.UPSTREAM, "503 api_error", 503, until=NOW + 3 * HOUR)

ROOM_SOON: list[tuple[str, list[Outcome], dict[str, float], int | None]] = [
    ("the primary is overloaded", [BUSY, TOO_LONG], {}, 5),
    ("the primary failed", [E500, TOO_LONG], {}, 5),
    ("the primary is down", [DOWN, TOO_LONG], {}, 5),
    ("the primary was too slow, and cools down", [LATE, TOO_LONG], {"a": NOW + 30}, 30),
    ("the primary's limit is over in a moment", [BURST, TOO_LONG], {"a": NOW + 12}, 12),
    ("the primary was skipped, and is back in a minute", [TOO_LONG], {"z": NOW + 60}, 60),
    ("another fallback failed", [QUOTA, TOO_LONG, E500], {"a": NOW + 3 * HOUR}, 5),
    ("the first that is back counts", [LATE, TOO_LONG, LATE], {"a": NOW + 30, "c": NOW + 9}, 9),
    ("the primary's limit is over in a minute", [A_MINUTE, TOO_LONG], {}, 5),
    ("the primary is throttled without a hint", [E429, TOO_LONG], {}, 5),
    ("so is one of its models", [MODEL_429, TOO_LONG], {}, 5),
    ("such a primary cools down", [E429, TOO_LONG], {"a": NOW + 30}, 30),
    ("such a primary cools down for minutes", [E429, TOO_LONG], {"a": NOW + 300}, None),
    ("another fallback is throttled", [KEY, TOO_LONG, E429], {}, 5),
    ("the primary's quota is used up, and its hint counts for no cooldown", [QUOTA, TOO_LONG], {},
     None),
    ("the primary does not know the model", [UNKNOWN, TOO_LONG], {}, None),
    ("the primary's credit is gone", [CREDIT, TOO_LONG], {}, None),
    ("the primary is back right now", [TOO_LONG], {"z": NOW}, None),
    ("the primary is skipped for minutes", [TOO_LONG], {"z": NOW + 61}, None),
    ("the primary failed, and cools down for minutes", [E500, TOO_LONG], {"a": NOW + 300}, None),
    ("the primary says that it is down for hours", [DOWN_FOR_HOURS, TOO_LONG], {}, None),
    ("the primary's key is refused", [KEY, TOO_LONG], {}, None),
    ("only the small one cools down", [KEY, TOO_LONG], {"b": NOW + 10}, None),
    ("the prompt is too long for both", [TOO_LONG, TOO_LONG], {"a": NOW + 10}, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "cooling", "seconds"),
    [row[1:] for row in ROOM_SOON],
    ids=[row[0] for row in ROOM_SOON],
)
def test_the_client_compacts_only_if_no_provider_with_room_is_back_soon(
    outcomes: list[Outcome], cooling: dict[str, float], seconds: int | None
) -> None:
    names = "abc" if len(outcomes) > 1 else "b"
    failures = [failure(names[index], outcome) for index, outcome in enumerate(outcomes)]
    given = verdict(failures, cooling)
    if seconds is None:
        assert given.status == 400
    else:
        assert (given.status, given.kind) == (502, "fallback_exhausted")
        assert dict(given.headers) == {b"retry-after": str(seconds).encode()}


@pytest.mark.parametrize(
    ("capped", "cooling", "too_long", "status"),
    [
        ([RESERVED], {}, {"b": 1000}, 502),
        ([CAPPED, RESERVED], {}, {}, 502),
        ([limit("c", ends=0.01)], {}, {"b": 1000}, 429),
        ([RESERVED], {"c": 300.0}, {"b": 1000}, 400),
        ([RESERVED], {}, {"c": 1000}, 400),
        ([limit("c")], {}, {"b": 1000}, 400),
        ([replace(RESERVED, provider="", token="t")], {}, {"b": 1000}, 400),
    ],
)
def test_the_client_does_not_compact_while_a_larger_provider_is_capped_for_a_moment(
    capped: list[Limit],
    cooling: dict[str, float],
    too_long: dict[str, int],
    status: int,
) -> None:
    given = exhausted_response(
        [failure("a", KEY), failure("b", TOO_LONG)],
        {name: NOW + left for name, left in cooling.items()},
        model="m",
        request_id="id",
        now=NOW,
        too_long=TooLong(6000, too_long),
        capped=capped,
    )
    assert given.status == status
    expected = {502: b"10", 429: b"36", 400: None}
    assert dict(given.headers).get(b"retry-after") == expected[status]


def test_a_prompt_that_is_too_long_for_the_primary_is_not_rewritten() -> None:
    assert verdict([failure("a", TOO_LONG), failure("b", BUSY)]).status == 502


def test_without_a_fallback_the_error_names_the_primarys_failure() -> None:
    given = no_fallback_response([failure("a", DOWN)], "id")
    assert given.status == 502
    assert given.kind == "proxy_error"
    assert given.message.startswith(
        "Primary API failed and no fallbacks configured: connection refused"
    )
    message = f"{given.message} [CCF-E106]"
    assert error_of(given) == {"type": "proxy_error", "message": message, "code": "CCF-E106"}


def test_without_any_attempt_the_error_says_so() -> None:
    assert "configured: the primary was not tried" in no_fallback_response([], "id").message


OUTCOMES = st.builds(
    Outcome,
    fault=st.sampled_from([fault for fault in Fault if fault is not Fault.NONE]),
    reason=st.text(max_size=20),
    status=st.none() | st.integers(400, 599),
    message=st.text(max_size=40),
    until=st.none() | st.floats(NOW - 1e5, NOW + 1e6),
)


@given(
    outcomes=st.lists(OUTCOMES, max_size=3),
    cooling=st.dictionaries(st.sampled_from("abcd"), st.floats(NOW - 1e5, NOW + 1e6)),
)
def test_retry_after_is_never_so_long_that_the_client_gives_up(
    outcomes: list[Outcome], cooling: dict[str, float]
) -> None:
    failures = [failure("abc"[index], outcome) for index, outcome in enumerate(outcomes)]
    headers = dict(verdict(failures, cooling).headers)
    assert len(headers) <= 1
    if b"retry-after" in headers:
        assert 1 <= int(headers[b"retry-after"]) <= 60


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
RUN = {"type": "code_execution_20250825", "name": "code_execution"}


@pytest.mark.parametrize(
    ("tool", "result"),
    [
        (SEARCH, "web_search_tool_result"),
        ({"type": "web_fetch_20250910", "name": "web_fetch"}, "web_fetch_tool_result"),
        (RUN, "code_execution_tool_result"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_search_that_no_provider_can_run_is_an_unavailable_result(
    tool: dict[str, Any], result: str, stream: bool
) -> None:
    members = {"model": "m", "stream": stream, "tools": [tool], "messages": []}
    answer = search_unavailable(Body.parse(msgspec.json.encode(members)), "ccr-1")
    assert (answer.status, answer.is_stream) == (200, stream)
    raw = to_message(answer.body) if stream else answer.body
    message = msgspec.json.decode(raw)
    call, found = message["content"]
    assert (call["type"], call["name"]) == ("server_tool_use", tool["name"])
    assert (found["type"], found["tool_use_id"]) == (result, call["id"])
    assert found["content"] == {"type": f"{result}_error", "error_code": "unavailable"}
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "m")
    assert re.fullmatch("msg_[0-9a-zA-Z]{24}", message["id"])
    assert re.fullmatch("srvtoolu_[0-9a-zA-Z]{24}", call["id"])
    assert call["input"] == {}
    assert message["usage"]["output_tokens"] == 0
    assert message["usage"]["input_tokens"] > 0
    assert answer.kind == "search_unavailable"


def test_a_prompt_that_fits_no_context_is_refused_in_anthropics_words() -> None:
    too_long = TooLong(6000, {"b": 1000, "c": 5000})
    given = verdict([], too_long=too_long)
    assert (given.status, given.kind) == (400, "invalid_request_error")
    assert given.message == "prompt is too long: 6000 tokens > 5000 maximum"
    waiting = verdict([failure("a", BUSY)], too_long=too_long)
    assert (waiting.status, waiting.headers) == (502, ((b"retry-after", b"5"),))
    assert "c (6000 tokens do not fit its 5000)" in waiting.message


def test_a_provider_whose_context_is_too_small_is_not_waited_for() -> None:
    given = verdict([failure("b", BUSY)], {"b": NOW + 9}, TooLong(6000, {"b": 1000}))
    assert given.status == 400


def test_an_attempt_with_one_of_several_keys_names_it() -> None:
    several = Provider(name="b", base_url="", key=KeySource(literals=(Secret("x"), Secret("y"))))
    first = several.accounts[0]
    [attempt] = error_of(verdict([Failure(first, KEY)]))["attempts"]
    assert attempt["key"] == first.key.number == 1


@pytest.mark.parametrize(
    ("name", "kind"), [("", "web_search"), ("web_fetch_x", "web_fetch"), ("other", "web_search")]
)
def test_a_missing_search_is_named_by_its_tool(name: str, kind: str) -> None:
    tool = {"type": "web_search_20250305", **({"name": name} if name else {})}
    body = Body.parse(msgspec.json.encode({"model": "m", "tools": [tool], "messages": []}))
    call, found = msgspec.json.decode(search_unavailable(body, "ccr-1").body)["content"]
    assert call["name"] == (name or "web_search")
    assert found["type"] == f"{kind}_tool_result"


LIMIT = Limit("b", "day", cap=5 * NANO, spent=6 * NANO, until=NOW + 3600.4)


def capped(limit: Limit) -> ErrorResponse:
    return exhausted_response([], {}, model="m", request_id="id", now=NOW, capped=[limit])


def test_a_reached_cap_stops_the_turn_in_words_that_the_client_shows() -> None:
    given = capped(LIMIT)
    assert (given.status, given.kind) == (429, "billing_error")
    assert given.message.startswith("The spend cap is reached: b (")
    assert error_of(given)["message"] == f"{given.message} [CCF-E109]"
    unified = "anthropic-ratelimit-unified-"
    assert {name.decode(): value.decode() for name, value in given.headers} == {
        "retry-after": "3601",
        "x-should-retry": "false",
        f"{unified}status": "rejected",
        f"{unified}reset": str(round(NOW + 3600)),
        f"{unified}overage-reset": str(round(NOW + 3600)),
        f"{unified}overage-utilization": "1",
        f"{unified}overage-surpassed-threshold": "1",
        f"{unified}overage-period": "daily",
        f"{unified}overage-disabled-reason": "org_spend_cap_reached",
    }
    ended = replace(LIMIT, until=NOW - 5)
    assert dict(capped(ended).headers)[b"retry-after"] == b"1"


def test_what_requests_in_flight_have_reserved_is_waited_for() -> None:
    given = capped(replace(LIMIT, spent=4 * NANO, reserved=2 * NANO))
    assert (given.status, given.kind) == (429, "rate_limit_error")
    assert given.headers == ((b"retry-after", b"10"),)
    assert error_of(given)["code"] == "CCF-E109"


@pytest.mark.parametrize(
    ("spent", "shown", "threshold"),
    [(0.8, "0.80", "0.75"), (0.999, "0.99", "0.95"), (1.2, "0.99", "0.95")],
)
def test_a_cap_that_is_near_is_told_in_headers(spent: float, shown: str, threshold: str) -> None:
    limit = replace(LIMIT, spent=round(spent * 5 * NANO))
    unified = "anthropic-ratelimit-unified-"
    assert {name.decode(): value.decode() for name, value in spend_warning(limit)} == {
        f"{unified}status": "allowed_warning",
        f"{unified}representative-claim": "overage",
        f"{unified}overage-status": "allowed_warning",
        f"{unified}overage-utilization": shown,
        f"{unified}overage-surpassed-threshold": threshold,
        f"{unified}reset": str(round(NOW + 3600)),
        f"{unified}overage-reset": str(round(NOW + 3600)),
    }


def test_the_first_cap_that_ends_is_named_in_the_headers() -> None:
    later = replace(LIMIT, provider="c", period="month", until=NOW + 7200)
    given = exhausted_response([], {}, model="m", request_id="i", now=NOW, capped=[later, LIMIT])
    headers = dict(given.headers)
    assert headers[b"retry-after"] == b"3601"
    assert headers[b"anthropic-ratelimit-unified-overage-period"] == b"daily"
