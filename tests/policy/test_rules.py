"""The rules of the chain as dialogues: outcomes go in; the attempts and the counts come out.

Loop and breaker play together here, and nothing else. Each name, and each row of the table,
stands again in `tests/server/test_rules.py`, where it happens over real sockets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec import structs
from msgspec.structs import replace

from ccfallback.addresses import address
from ccfallback.config.model import Breaker, Config, Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.errors import read_error
from ccfallback.messages.thinking import mark
from ccfallback.messages.tokens import Usage
from ccfallback.policy import breaker
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.error_response import Failure, exhausted_response, no_fallback_response
from ccfallback.policy.failover import Admission, Flow, Reason, Try, Wait, failover, is_final
from ccfallback.policy.outcome import BLAME, Fault, Outcome, classify
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.provider_body import adapt_body
from tests.rules import BLAMED, CAPPED, MODEL, MOST, RULES, TIERS, Counts, Rule, Said

NOW = 1_700_000_000.0
DRAFT = RequestDraft(Body.parse(msgspec.json.encode({"model": MODEL, "messages": []})))
WELL = Outcome(Fault.NONE, status=200)
E500 = Outcome(Fault.UPSTREAM, "500 api_error", 500)
E529 = Outcome(Fault.OVERLOADED, "529 overloaded_error", 529)
NO_ROUTE = Outcome(Fault.UNREACHABLE, "no route to host")
REFUSED = Outcome(Fault.TRANSPORT, "connection refused")


def provider(name: str, primary: str = "a") -> Provider:
    return Provider(name=name, base_url=f"https://{name}.test", primary=name == primary)


def config(names: str = "abc", **more: Any) -> Config:
    """Providers with these names; the first is the primary."""
    primary, *others = (
        Provider(name=name, base_url=f"https://{name}.test", primary=name == names[0])
        for name in names
    )
    return Config(primary=primary, providers=tuple(others), **more)


@dataclass
class Turn:
    """The breakers as one request sees them, at a moment that the test decides."""

    rules: Config
    states: dict[str, BreakerState] = field(default_factory=dict)
    now: float = NOW
    probing: set[str] = field(default_factory=set)
    began: dict[str, float] = field(default_factory=dict)

    def of(self, name: str) -> BreakerState:
        return self.states.get(name, CLOSED)

    def is_capped(self, _provider: Provider) -> bool:
        return False

    def admission(self, provider: Provider) -> Admission:
        limits = Limits.from_config(self.rules)
        known = self.of(provider.name)
        both = (known, known.models.get(MODEL, CLOSED))
        phases = [breaker.phase(state, self.now) for state in both]
        if not limits.cooldowns or set(phases) == {Phase.CLOSED}:
            return Admission.OPEN
        if Phase.OPEN in phases:
            return Admission.COOLING
        return Admission.BUSY if provider.name in self.probing else Admission.OPEN

    def cooldown_until(self, provider: Provider) -> float:
        return self.of(provider.name).cooldown_until or 0.0

    def begin(self, provider: Provider) -> None:
        self.probing.add(provider.name)
        self.began[provider.name] = self.now

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        name, began = provider.name, self.began[provider.name]
        self.probing.discard(name)
        if outcome is None or not outcome.complete:
            return
        state, now = self.of(name), self.now
        if outcome.ok:
            self.states[name] = breaker.count_success(state, model=MODEL, began=began, now=now)
        else:
            limits = Limits.from_config(self.rules)
            self.states[name] = breaker.count_failure(
                state, outcome, model=MODEL, began=began, now=now, limits=limits
            )


def flow_of(turn: Turn, chain: Sequence[Provider] | None = None, **more: Any) -> Flow:
    rules = turn.rules
    return failover(
        DRAFT,
        rules.active if chain is None else chain,
        turn,
        is_final=partial(is_final, rules=rules.failover),
        repair=more.pop("repair", lambda *_: None),
        backoff=lambda _: 0.0,
        clock=lambda: turn.now,
        **more,
    )


def play(flow: Flow, script: Mapping[str, Sequence[Outcome]]) -> tuple[str, Outcome | None]:
    """The providers tried, in order, and the client's outcome; `None` if all failed."""
    left = {name: list(outcomes) for name, outcomes in script.items()}
    asked: list[str] = []
    sent: Outcome | None = None
    try:
        step = next(flow)
        while True:
            sent = None
            if isinstance(step, Try):
                asked.append(step.provider.name)
                sent = left[step.provider.name].pop(0)
            step = flow.send(sent)
    except StopIteration as end:
        assert not any(left.values())
        return "".join(asked), end.value


def meaning(said: Said) -> Outcome:
    headers = dict(said.headers(NOW))
    return classify(said.status, headers, read_error(said.body), now=NOW)


def failures(count: int) -> BreakerState:
    return BreakerState(failures=count, last_failure=NOW - 600, reason="before")


def seconds(state: BreakerState) -> float | None:
    return None if state.cooldown_until is None else state.cooldown_until - NOW


def cooling(until: float) -> BreakerState:
    began = NOW - 10
    return BreakerState(failures=3, last_failure=began, cooldown_until=until, cooldown_began=began)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_what_counts(rule: Rule) -> None:
    outcome = meaning(rule.does) if isinstance(rule.does, Said) else rule.comes_to
    assert outcome is not None
    rules = config("pab") if rule.at_fallback else config("ab")
    faulty = "a"
    if rule.at_fallback:
        rules = replace(rules, primary=replace(rules.primary, disabled=True))
    turn = Turn(rules, {faulty: failures(1)})
    at_first = WELL.but(complete=False) if rule.torn else outcome
    script = {faulty: [at_first], **({"b": [WELL]} if rule.goes_on else {})}
    asked, result = play(flow_of(turn), script)
    if rule.torn:
        assert turn.of(faulty).failures == 1
        turn.settle(rules.primary, outcome)
    assert asked == ("ab" if rule.goes_on else "a")
    assert result == (WELL if rule.goes_on else at_first)
    state = turn.of(faulty)
    expected = {Counts.SUCCESS: 0, Counts.PROVIDER: 2}.get(rule.counts, 1)
    assert state.failures == expected
    models = {name: model.failures for name, model in state.models.items()}
    assert models == ({MODEL: 1} if rule.counts is Counts.MODEL else {})
    if rule.counts in BLAMED:
        assert BLAME[outcome.fault] is BLAMED[rule.counts]
    blamed = state.models[MODEL] if rule.counts is Counts.MODEL else state
    assert seconds(blamed) == rule.cools


def test_rule_1_the_primary_is_tried_first_and_then_each_in_order() -> None:
    script = {"a": [E500], "c": [E529], "b": [WELL]}
    assert play(flow_of(Turn(config("acb"))), script) == ("acb", WELL)


def test_rule_1_a_disabled_provider_is_not_tried() -> None:
    rules = config("abc")
    first, *others = rules.providers
    disabled = replace(rules.primary, disabled=True)
    rules = replace(rules, primary=disabled, providers=(replace(first, disabled=True), *others))
    assert play(flow_of(Turn(rules)), {"c": [WELL]}) == ("c", WELL)


def test_rule_1_a_request_may_exclude_the_primary() -> None:
    rules = config("ab")
    assert play(flow_of(Turn(rules), rules.active[1:]), {"b": [WELL]}) == ("b", WELL)


def test_rule_1_a_cooling_provider_is_skipped() -> None:
    turn = Turn(config("abc"), {"a": cooling(NOW + 5), "b": cooling(NOW + 9)})
    assert play(flow_of(turn), {"c": [WELL]}) == ("c", WELL)


def test_rule_2_the_first_success_is_the_answer() -> None:
    assert play(flow_of(Turn(config("abc"))), {"a": [E500], "b": [WELL]}) == ("ab", WELL)


def test_rule_2_without_a_fallback_the_primarys_own_failure_is_the_answer() -> None:
    assert play(flow_of(Turn(config("a"))), {"a": [E529]}) == ("a", None)
    verdict = no_fallback_response([Failure(provider("a"), REFUSED)], "id")
    assert (verdict.status, verdict.kind) == (502, "proxy_error")


def test_rule_2_all_failures_are_listed_in_one_error() -> None:
    assert play(flow_of(Turn(config("ab"))), {"a": [E529], "b": [E500]}) == ("ab", None)
    failed = [Failure(provider("a"), E529), Failure(provider("b"), E500)]
    verdict = exhausted_response(failed, {}, model=MODEL, request_id="id", now=NOW)
    error = msgspec.json.decode(verdict.body)["error"]
    assert (verdict.status, error["type"]) == (502, "fallback_exhausted")
    assert [attempt["status"] for attempt in error["attempts"]] == [529, 500]


def test_rule_2_the_primarys_404_is_passed_on() -> None:
    unknown = meaning(Said(404, "not_found_error", "model: claude-x"))
    # Not final: all others are tried before the client gets it.
    assert play(flow_of(Turn(config("ab"))), {"a": [unknown], "b": [E500]}) == ("ab", None)


def test_rule_2_a_prompt_too_long_for_a_fallback_is_reported_in_words_that_the_client_knows() -> (
    None
):
    long = meaning(Said(400, "invalid_request_error", "This model's maximum context length is 9"))
    assert play(flow_of(Turn(config("ab"))), {"a": [E529], "b": [long]}) == ("ab", None)
    failed = [Failure(provider("a"), E529), Failure(provider("b"), long)]
    later = {"a": NOW + 300}
    verdict = exhausted_response(failed, later, model=MODEL, request_id="id", now=NOW)
    assert verdict.status == 400
    assert verdict.message.startswith("prompt is too long: ")


def test_rule_2_the_client_waits_for_a_primary_that_is_back_soon_and_does_not_compact() -> None:
    long = meaning(Said(400, "invalid_request_error", "This model's maximum context length is 9"))
    failed = [Failure(provider("a"), E529), Failure(provider("b"), long)]
    # To compact is final.
    verdict = exhausted_response(failed, {}, model=MODEL, request_id="id", now=NOW)
    assert (verdict.status, dict(verdict.headers)) == (502, {b"retry-after": b"5"})


def test_rule_3_the_provider_that_is_back_first_is_the_safety_valve() -> None:
    turn = Turn(config("abc"), {"a": cooling(NOW + 9), "b": cooling(NOW + 5)})
    assert play(flow_of(turn), {"c": [E500], "b": [WELL]}) == ("cb", WELL)
    assert [seconds(turn.of(name)) for name in "ab"] == [9, None]


def test_rule_4_with_one_active_provider_nothing_cools() -> None:
    turn = Turn(config("a"))
    for count in range(1, 12):
        turn.now = NOW + count
        assert play(flow_of(turn), {"a": [Outcome(Fault.TIMEOUT, "idle timeout")]}) == ("a", None)
        assert (turn.of("a").failures, turn.of("a").cooldown_until) == (count, None)


@pytest.mark.parametrize(("count", "cools"), TIERS.items())
def test_rule_5_more_failures_make_a_longer_cooldown(count: int, cools: float | None) -> None:
    turn = Turn(config("ab"), {"a": failures(count - 1)})
    play(flow_of(turn), {"a": [E500], "b": [WELL]})
    assert (turn.of("a").failures, seconds(turn.of("a"))) == (count, cools)


@pytest.mark.parametrize(("count", "cools"), CAPPED.items())
def test_rule_5_max_cooldown_caps_every_tier(count: int, cools: float) -> None:
    turn = Turn(config("ab", breaker=Breaker(max_cooldown=MOST)), {"a": failures(count - 1)})
    play(flow_of(turn), {"a": [E500], "b": [WELL]})
    assert seconds(turn.of("a")) == cools


def half_open(count: int = 3) -> BreakerState:
    return structs.replace(failures(count), cooldown_until=NOW - 1, cooldown_began=NOW - 31)


def test_rule_5_one_request_at_a_time_probes() -> None:
    turn = Turn(config("ab"), {"a": half_open()})
    probe = flow_of(turn)
    assert next(probe) == Try(turn.rules.primary, DRAFT, Reason.FIRST)
    assert play(flow_of(turn), {"b": [WELL]}) == ("b", WELL)
    with pytest.raises(StopIteration):
        probe.send(WELL)
    assert turn.of("a") == BreakerState(
        last_failure=NOW - 600, last_success=NOW, reason="before"
    ), "a success sets the count to 0 and clears the cooldown"
    assert play(flow_of(turn), {"a": [WELL]}) == ("a", WELL)


def test_rule_5_without_another_provider_several_requests_probe() -> None:
    turn = Turn(config("ab"), {"a": half_open()})
    probe = flow_of(turn)
    next(probe)
    assert play(flow_of(turn), {"b": [E500], "a": [WELL]}) == ("ba", WELL)


def test_rule_5_a_failed_probe_is_one_more_failure() -> None:
    turn = Turn(config("ab"), {"a": half_open(4)})
    play(flow_of(turn), {"a": [E500], "b": [WELL]})
    assert (turn.of("a").failures, seconds(turn.of("a"))) == (5, 60)


def test_rule_6_a_stream_is_a_success_only_at_its_end() -> None:
    turn = Turn(config("ab"), {"a": half_open()})
    play(flow_of(turn), {"a": [WELL.but(complete=False)]})
    assert turn.of("a").failures == 3
    assert turn.admission(turn.rules.primary) is Admission.OPEN, "the place is free"
    turn.settle(turn.rules.primary, WELL)
    assert turn.of("a").failures == 0


def test_rule_6_two_unreachable_hosts_count_as_no_failure() -> None:
    gone = {"a": [NO_ROUTE], "b": [Outcome(Fault.CONNECT_TIMEOUT)]}
    turn = Turn(config("ab"))
    assert play(flow_of(turn), gone) == ("ab", None)
    assert not turn.states
    # Unless another host is reached: then these two are down themselves.
    turn = Turn(config("abc"))
    assert play(flow_of(turn), {**gone, "c": [WELL]}) == ("abc", WELL)
    assert {name: state.failures for name, state in turn.states.items()} == {"a": 1, "b": 1, "c": 0}


def test_rule_6_a_refused_connection_was_reached() -> None:
    turn = Turn(config("abc"))
    script = {"a": [NO_ROUTE], "b": [REFUSED], "c": [WELL]}
    assert play(flow_of(turn), script) == ("abc", WELL)
    assert [turn.of(name).failures for name in "abc"] == [1, 1, 0]


def test_rule_6_a_request_waits_for_this_machines_own_network() -> None:
    flow = flow_of(Turn(config("ab")), network_wait=5.0)
    next(flow)
    flow.send(NO_ROUTE)
    assert isinstance(flow.send(NO_ROUTE), Wait)
    step = flow.send(None)
    assert isinstance(step, Try)
    assert step.reason is Reason.NETWORK_BACK


def test_rule_6_a_client_disconnect_counts_as_no_failure() -> None:
    turn = Turn(config("ab"), {"a": half_open()})
    flow = flow_of(turn)
    next(flow)
    flow.close()
    assert turn.of("a") == half_open()
    assert turn.admission(turn.rules.primary) is Admission.OPEN


def test_rule_6_an_expired_login_is_reported_once_and_then_skipped() -> None:
    turn = Turn(config("ab"))
    expired = Outcome(Fault.LOGIN, "401 authentication_error", 401)
    assert play(flow_of(turn), {"a": [expired]}) == ("a", expired)
    assert turn.states == {}
    again = meaning(Said(401, "authentication_error"))
    assert play(flow_of(turn), {"a": [again], "b": [WELL]}) == ("ab", WELL)
    assert turn.of("a").failures == 1


def test_rule_6_the_attempts_of_one_request_are_one_failure() -> None:
    rules = config("ab")
    turn = Turn(replace(rules, primary=replace(rules.primary, retry=2)))
    assert play(flow_of(turn), {"a": [E500, E500, E529], "b": [WELL]}) == ("aaab", WELL)
    # The last one is what it came to.
    assert turn.of("a").models[MODEL].failures == 1
    assert turn.of("a").failures == 0


def test_rule_6_a_hint_never_shortens_a_longer_cooldown() -> None:
    turn = Turn(config("ab"), {"a": failures(9)})
    soon = meaning(Said(429, "rate_limit_error", headers=lambda _: {"retry-after": "5"}))
    play(flow_of(turn), {"a": [soon], "b": [WELL]})
    assert seconds(turn.of("a")) == 300


def test_rule_7_failures_in_flight_together_open_the_breaker_once() -> None:
    rules = config("ab")
    states: dict[str, BreakerState] = {}
    turns = [Turn(rules, states) for _ in range(12)]
    flows = [flow_of(turn) for turn in turns]
    for flow in flows:
        next(flow)
    for number, (turn, flow) in enumerate(zip(turns, flows, strict=True)):
        turn.now = NOW + number
        assert isinstance(flow.send(E500), Try)
    assert states["a"].failures == 12
    # The third one began it, and the others did not lengthen it.
    assert seconds(states["a"]) == 2 + 30


def test_rule_8_a_repaired_request_goes_to_the_same_provider_once_per_repair() -> None:
    used_before: list[frozenset[str]] = []

    def repair(
        _provider: Provider, draft: RequestDraft, _refusal: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        used_before.append(used)
        left = [name for name in ("one", "two") if name not in used]
        return (left[0], replace(draft, body=draft.body.with_members(x=left[0]))) if left else None

    refusal = meaning(Said(400, "invalid_request_error", "no such thing"))
    turn = Turn(config("ab"), {"a": failures(1)})
    flow = flow_of(turn, repair=repair)
    assert play(flow, {"a": [refusal, refusal, E500], "b": [WELL]}) == ("aaab", WELL)
    assert turn.of("a").failures == 2, "all of it is one attempt"
    assert used_before == [frozenset(), {"one"}]
    # Once there is no repair left, the primary's refusal is the answer.
    flow = flow_of(turn, repair=repair)
    assert play(flow, {"a": [refusal, refusal, refusal]}) == ("aaa", refusal)


CLIENT = [
    (b"authorization", b"Bearer sk-ant-oat-users"),
    (b"x-api-key", b"users-key"),
    (b"cookie", b"users-cookie"),
    (b"proxy-authorization", b"Basic users-password"),
    (b"x-ccf-api-key", b"users-token"),
    (b"x-claude-code-session-id", b"users-session"),
    (b"x-stainless-os", b"users-os"),
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"oauth-2025-04-20,effort-2025-11-24"),
]


def test_rule_9_what_a_fallback_never_sees() -> None:
    rules = config("ab")
    sent = dict(
        FORMATS["anthropic"].headers(
            CLIENT, rules.providers[0], Credential("its-own-key"), via="1.1 x"
        )
    )
    assert b"users" not in b"".join([*sent, *sent.values()])
    assert sent[b"anthropic-beta"] == b"effort-2025-11-24"
    assert sent[b"x-api-key"] == b"its-own-key"
    asked = Body.parse(b'{"model":"m","messages":[],"metadata":{"user_id":"users-name"}}')
    body = adapt_body(rules.providers[0], asked, Privacy())
    assert b"users-name" not in body.raw
    assert body.get("metadata")["user_id"].startswith("user_")


def test_rule_10_the_primary_gets_the_clients_own_bytes() -> None:
    primary = config("ab").primary
    sent = FORMATS["anthropic"].headers(CLIENT, primary, None, via="1.1 x")
    assert (b"anthropic-beta", b"oauth-2025-04-20,effort-2025-11-24") in sent
    assert (b"anthropic-version", b"2026-10-21") in sent
    raw = b'{"model":"m",  "messages":[], "z": "\\u00e9", "a": 1e2}\n'
    assert adapt_body(primary, Body.parse(raw), Privacy()).raw == raw


def test_rule_10_synthesized_thinking_is_removed() -> None:
    own = {"type": "thinking", "thinking": "hm", "signature": mark("hm")}
    said = {"type": "text", "text": "so"}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [own, said]}]
    asked = Body.parse(msgspec.json.encode({"model": "m", "messages": messages}))
    sent = [adapt_body(config("ab").primary, asked, Privacy()) for _ in range(2)]
    assert sent[0].get("messages")[1]["content"] == [said]
    assert sent[0].raw == sent[1].raw


def test_rule_11_the_proxy_does_not_send_requests_to_itself() -> None:
    assert address("http://localhost:8787/v1") == address("http://127.0.0.1:8787")
    turn = Turn(config("ab"))
    refused = Outcome(Fault.ACCOUNT, "its address is this proxy itself")
    assert play(flow_of(turn), {"a": [refused], "b": [WELL]}) == ("ab", WELL)


def test_rule_11_a_longer_loop_is_noticed() -> None:
    came_by = [*CLIENT, (b"via", b"1.1 other")]
    for provider in config("ab").chain:
        sent = dict(FORMATS["anthropic"].headers(came_by, provider, None, via="1.1 this-one"))
        assert sent[b"via"] == b"1.1 other, 1.1 this-one"
