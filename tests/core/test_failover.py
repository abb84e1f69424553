"""The loop as dialogues: outcomes go in, a transcript of the steps comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.core.body import Body
from ccfallback.core.config import Config, Failover, Provider
from ccfallback.core.failover import (
    Admission,
    Flow,
    IsFinal,
    Reason,
    Try,
    Wait,
    failover,
    is_final,
    only_answers,
)
from ccfallback.core.outcome import Fault, Outcome

BODY = Body.parse(b'{"model":"m","messages":[]}')

OK = Outcome(Fault.NONE, status=200)
E400 = Outcome(Fault.REQUEST, status=400, message="first refusal")
E400_AGAIN = Outcome(Fault.REQUEST, status=400, message="second refusal")
E400_BILLING = Outcome(Fault.ACCOUNT, status=400)
E401 = Outcome(Fault.ACCOUNT, status=401)
E401_LOGIN = Outcome(Fault.LOGIN, status=401)
E403 = Outcome(Fault.ACCOUNT, status=403)
E404 = Outcome(Fault.UNKNOWN_MODEL, status=404)
E404_BILLING = Outcome(Fault.ACCOUNT, status=404)
E409 = Outcome(Fault.REQUEST, status=409)
E413 = Outcome(Fault.REQUEST, status=413)
E422 = Outcome(Fault.REQUEST, status=422)
E429 = Outcome(Fault.THROTTLED, status=429)
E500 = Outcome(Fault.UPSTREAM, status=500)
E503_BACK_AT = Outcome(Fault.UPSTREAM, status=503, until=1000.0)
E529 = Outcome(Fault.OVERLOADED, status=529)
BROKEN = Outcome(Fault.UPSTREAM, status=200)
"""A 2xx that is no answer."""
REFUSED_INSIDE = Outcome(Fault.REQUEST, status=200)
REFUSED = Outcome(Fault.TRANSPORT)
TIMEOUT = Outcome(Fault.TIMEOUT)
NO_ROUTE = Outcome(Fault.UNREACHABLE)
NO_CONNECT = Outcome(Fault.CONNECT_TIMEOUT)


def provider(name: str, **more: object) -> Provider:
    return Provider(name=name, base_url=f"https://{name}.test", **more)  # type: ignore[arg-type] # the rows below are few


A = provider("a", primary=True)
A_RETRIES = provider("a", primary=True, retry=2)
B = provider("b")
B_AT_A = Provider(name="b", base_url="https://a.test:8443/v1")
C = provider("c")


@dataclass
class FakeHealth:
    """Breakers that say what a test tells them, and note what they are told."""

    admissions: Mapping[str, Admission] = field(default_factory=dict)
    until: Mapping[str, float] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    settled: list[tuple[str, Outcome | None]] = field(default_factory=list)

    def admission(self, provider: Provider) -> Admission:
        return self.admissions.get(provider.name, Admission.OPEN)

    def cooldown_until(self, provider: Provider) -> float:
        return self.until[provider.name]

    def begin(self, provider: Provider) -> None:
        self.begun.append(provider.name)

    def settle(self, provider: Provider, outcome: Outcome | None) -> None:
        self.settled.append((provider.name, outcome))


REPAIRS = ("x", "y")


def repair(
    provider: Provider, body: Body, refusal: Outcome, used: frozenset[str]
) -> tuple[str, Body] | None:
    """Knows two repairs of any refusal; each leaves its mark in the body."""
    name = next((name for name in REPAIRS if name not in used), None)
    return None if name is None else (name, body.with_members(**{name: True}))


def no_repair(*_: object) -> None:
    return None


def conversation(
    chain: Sequence[Provider],
    health: FakeHealth,
    *,
    final: IsFinal | None = None,
    repairs: bool = False,
    network_wait: float = 0.0,
) -> Flow:
    return failover(
        BODY,
        chain,
        health,
        is_final=final or is_final(Failover()),
        repair=repair if repairs else no_repair,
        backoff=lambda retry: 0.25 * retry,
        network_wait=network_wait,
    )


def play(
    flow: Flow, script: Mapping[str, Sequence[Outcome]]
) -> tuple[list[str], Outcome | None, list[Try]]:
    """Perform the steps with the outcomes of `script`: transcript, result and tries."""
    waiting = {name: list(outcomes) for name, outcomes in script.items()}
    transcript: list[str] = []
    tries: list[Try] = []
    answer: Outcome | None = None
    try:
        step = next(flow)
        while True:
            match step:
                case Try():
                    tries.append(step)
                    transcript.append(f"{step.provider.name} {step.reason}")
                    answer = waiting[step.provider.name].pop(0)
                case Wait(seconds):
                    transcript.append(f"wait {seconds:g}")
                    answer = None
            step = flow.send(answer)
    except StopIteration as end:
        assert not any(waiting.values()), f"never asked for: {waiting}"
        result: Outcome | None = end.value
        return transcript, result, tries


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rule as a dialogue."""

    rule: str
    chain: tuple[Provider, ...] = (A, B)
    script: Mapping[str, Sequence[Outcome]]
    said: tuple[str, ...]
    result: Outcome | None
    blamed: tuple[tuple[str, Outcome | None], ...]
    admissions: Mapping[str, Admission] = field(default_factory=dict)
    until: Mapping[str, float] = field(default_factory=dict)
    on: frozenset[int] = Failover().statuses
    repairs: bool = False
    network_wait: float = 0.0


COOLING, BUSY = Admission.COOLING, Admission.BUSY

ROWS = (
    Row(
        rule="the first answer is the answer",
        script={"a": [OK]},
        said=("a first",),
        result=OK,
        blamed=(("a", OK),),
    ),
    Row(
        rule="the chain is asked in order",
        chain=(A, C, B),
        script={"a": [E500], "c": [E429], "b": [OK]},
        said=("a first", "c failover", "b failover"),
        result=OK,
        blamed=(("a", E500), ("c", E429), ("b", OK)),
    ),
    Row(
        rule="without an answer there is no result",
        script={"a": [E500], "b": [E529]},
        said=("a first", "b failover"),
        result=None,
        blamed=(("a", E500), ("b", E529)),
    ),
    Row(
        rule="an empty chain asks nobody",
        chain=(),
        script={},
        said=(),
        result=None,
        blamed=(),
    ),
    Row(
        rule="who cools is passed by",
        script={"b": [OK]},
        admissions={"a": COOLING},
        until={"a": 9.0},
        said=("b first",),
        result=OK,
        blamed=(("b", OK),),
    ),
    Row(
        rule="the safety valve is last, and only the one whose cooldown ends first",
        chain=(A, B, C),
        script={"b": [OK], "c": [E500]},
        admissions={"a": COOLING, "b": COOLING},
        until={"a": 9.0, "b": 5.0},
        said=("c first", "b safety-valve"),
        result=OK,
        blamed=(("c", E500), ("b", OK)),
    ),
    Row(
        rule="the safety valve is opened once",
        chain=(A, B, C),
        script={"b": [E500]},
        admissions={"a": COOLING, "b": COOLING, "c": COOLING},
        until={"a": 9.0, "b": 5.0, "c": 7.0},
        said=("b safety-valve",),
        result=None,
        blamed=(("b", E500),),
    ),
    Row(
        rule="a busy probe is passed by",
        script={"b": [OK]},
        admissions={"a": BUSY},
        said=("b first",),
        result=OK,
        blamed=(("b", OK),),
    ),
    Row(
        rule="a busy probe is asked when nobody else is left, and before the valve",
        chain=(A, B, C),
        script={"a": [E500], "b": [E529], "c": [OK]},
        admissions={"a": BUSY, "c": COOLING},
        until={"c": 5.0},
        said=("b first", "a busy-probe", "c safety-valve"),
        result=OK,
        blamed=(("b", E529), ("a", E500), ("c", OK)),
    ),
    Row(
        rule="retries with waits between them, then failover; all of it one failure",
        chain=(A_RETRIES, B),
        script={"a": [E500, REFUSED, E529], "b": [OK]},
        said=("a first", "wait 0.25", "a retry", "wait 0.5", "a retry", "b failover"),
        result=OK,
        blamed=(("a", E529), ("b", OK)),
    ),
    Row(
        rule="a retry that is answered counts for nothing bad",
        chain=(A_RETRIES, B),
        script={"a": [E500, OK]},
        said=("a first", "wait 0.25", "a retry"),
        result=OK,
        blamed=(("a", OK),),
    ),
    Row(
        rule="a reset hint means no retry",
        chain=(A_RETRIES, B),
        script={"a": [E503_BACK_AT], "b": [OK]},
        said=("a first", "b failover"),
        result=OK,
        blamed=(("a", E503_BACK_AT), ("b", OK)),
    ),
    *(
        Row(
            rule=f"no retry after {outcome.fault}",
            chain=(A_RETRIES, B),
            script={"a": [outcome], "b": [OK]},
            said=("a first", "b failover"),
            result=OK,
            blamed=(("a", outcome), ("b", OK)),
        )
        for outcome in (E401, E404, E429, TIMEOUT, Outcome(Fault.MODEL_THROTTLED, status=429))
    ),
    Row(
        rule="a repair goes to the same provider",
        repairs=True,
        script={"a": [E400, OK]},
        said=("a first", "a rectified"),
        result=OK,
        blamed=(("a", OK),),
    ),
    Row(
        rule="several repairs in a row, each once; the first refusal stands",
        repairs=True,
        script={"a": [E400, E400_AGAIN, E400_AGAIN]},
        said=("a first", "a rectified", "a rectified"),
        result=E400,
        blamed=(("a", None),),
    ),
    Row(
        rule="a repaired request that fails in another way is that failure",
        repairs=True,
        script={"a": [E400, E529], "b": [OK]},
        said=("a first", "a rectified", "b failover"),
        result=OK,
        blamed=(("a", E529), ("b", OK)),
    ),
    Row(
        rule="a repaired request is retried repaired",
        repairs=True,
        chain=(A_RETRIES, B),
        script={"a": [E422, E500, OK]},
        said=("a first", "a rectified", "wait 0.25", "a retry"),
        result=OK,
        blamed=(("a", OK),),
    ),
    *(
        Row(
            rule=f"the primary's other {outcome.status} is the answer, and nobody's failure",
            script={"a": [outcome]},
            said=("a first",),
            result=outcome,
            blamed=(("a", None),),
        )
        for outcome in (E400, E409, E413, E422)
    ),
    *(
        Row(
            rule=f"a fallback's other {outcome.status} goes on, and is nobody's failure",
            chain=(A, B, C),
            script={"a": [E500], "b": [outcome], "c": [OK]},
            said=("a first", "b failover", "c failover"),
            result=OK,
            blamed=(("a", E500), ("b", outcome), ("c", OK)),
        )
        for outcome in (E400, E413, E422)
    ),
    *(
        Row(
            rule=f"the primary's {outcome.status} over {outcome.fault} goes on",
            script={"a": [outcome], "b": [OK]},
            said=("a first", "b failover"),
            result=OK,
            blamed=(("a", outcome), ("b", OK)),
        )
        for outcome in (E400_BILLING, E404_BILLING, E401, E403, E404, E429, E500, E529)
    ),
    *(
        Row(
            rule=f"always goes on: {outcome.fault} with status {outcome.status}",
            on=frozenset(),
            script={"a": [outcome], "b": [OK]},
            said=("a first", "b failover"),
            result=OK,
            blamed=(("a", outcome), ("b", OK)),
        )
        for outcome in (
            REFUSED,
            TIMEOUT,
            BROKEN,
            REFUSED_INSIDE,
            E400_BILLING,
            E404_BILLING,
        )
    ),
    *(
        Row(
            rule=f"a status that is not in the list is the answer: {outcome.status}",
            on=frozenset(),
            script={"a": [outcome]},
            said=("a first",),
            result=outcome,
            blamed=(("a", None),),
        )
        for outcome in (E401, E403, E404, E429, E500, E529)
    ),
    Row(
        rule="a status that was added to the list goes on",
        on=frozenset({409}),
        script={"a": [E409], "b": [OK]},
        said=("a first", "b failover"),
        result=OK,
        blamed=(("a", E409), ("b", OK)),
    ),
    Row(
        rule="the list is about the primary: a fallback's failure goes on whatever it says",
        on=frozenset(),
        chain=(A, B, C),
        script={"a": [REFUSED], "b": [E401], "c": [OK]},
        said=("a first", "b failover", "c failover"),
        result=OK,
        blamed=(("a", REFUSED), ("b", E401), ("c", OK)),
    ),
    Row(
        rule="a login that has run out is handed on and counts for nothing",
        script={"a": [E401_LOGIN]},
        said=("a first",),
        result=E401_LOGIN,
        blamed=(("a", None),),
    ),
    Row(
        rule="two unreachable hosts are this machine's fault",
        script={"a": [NO_ROUTE], "b": [NO_CONNECT]},
        said=("a first", "b failover"),
        result=None,
        blamed=(("a", None), ("b", None)),
    ),
    Row(
        rule="two unreachable hosts blame nobody even when a third answers",
        chain=(A, B, C),
        script={"a": [NO_ROUTE], "b": [NO_ROUTE], "c": [OK]},
        said=("a first", "b failover", "c failover"),
        result=OK,
        blamed=(("c", OK), ("a", None), ("b", None)),
    ),
    Row(
        rule="one unreachable host is to blame itself",
        script={"a": [NO_ROUTE], "b": [OK]},
        said=("a first", "b failover"),
        result=OK,
        blamed=(("b", OK), ("a", NO_ROUTE)),
    ),
    Row(
        rule="the same host twice is one host",
        chain=(A, B_AT_A),
        network_wait=5.0,
        script={"a": [NO_ROUTE], "b": [NO_ROUTE]},
        said=("a first", "b failover"),
        result=None,
        blamed=(("a", NO_ROUTE), ("b", NO_ROUTE)),
    ),
    Row(
        rule="a refused connection was reached",
        network_wait=5.0,
        script={"a": [REFUSED], "b": [NO_ROUTE]},
        said=("a first", "b failover"),
        result=None,
        blamed=(("a", REFUSED), ("b", NO_ROUTE)),
    ),
    Row(
        rule="waits for the network, and goes on when it is back",
        network_wait=5.0,
        script={"a": [NO_ROUTE, NO_ROUTE, OK], "b": [NO_ROUTE, NO_CONNECT]},
        said=(
            *("a first", "b failover", "wait 0.5", "a network-back", "b network-back"),
            *("wait 0.5", "a network-back"),
        ),
        result=OK,
        blamed=(("a", None), ("b", None), ("a", None), ("b", None), ("a", OK)),
    ),
    Row(
        rule="waits for the network no longer than it may",
        network_wait=0.7,
        script={"a": [NO_ROUTE] * 3, "b": [NO_ROUTE] * 3},
        said=(
            *("a first", "b failover", "wait 0.5", "a network-back", "b network-back"),
            *("wait 0.2", "a network-back", "b network-back"),
        ),
        result=None,
        blamed=(("a", None), ("b", None)) * 3,
    ),
    Row(
        rule="does not wait for the network when somebody was reached",
        chain=(A, B, C),
        network_wait=5.0,
        script={"a": [NO_ROUTE], "b": [NO_ROUTE], "c": [E500]},
        said=("a first", "b failover", "c failover"),
        result=None,
        blamed=(("c", E500), ("a", None), ("b", None)),
    ),
    Row(
        rule="a failure that is no network's, once the network is back, ends the wait",
        network_wait=5.0,
        script={"a": [NO_ROUTE, E400], "b": [NO_ROUTE]},
        said=("a first", "b failover", "wait 0.5", "a network-back"),
        result=E400,
        blamed=(("a", None), ("b", None), ("a", None)),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_the_chain(row: Row) -> None:
    health = FakeHealth(admissions=row.admissions, until=row.until)
    flow = conversation(
        row.chain,
        health,
        final=is_final(Failover(statuses=row.on)),
        repairs=row.repairs,
        network_wait=row.network_wait,
    )
    transcript, result, _ = play(flow, row.script)
    assert tuple(transcript) == row.said
    assert result == row.result
    assert tuple(health.settled) == row.blamed
    assert sorted(health.begun) == sorted(name for name, _ in health.settled)


def test_a_disabled_provider_is_in_no_conversation() -> None:
    config = Config(
        primary=provider("a", primary=True, disabled=True),
        providers=(provider("b", disabled=True), C),
    )
    transcript, _, _ = play(conversation(config.active, FakeHealth()), {"c": [OK]})
    assert transcript == ["c first"]


def test_every_provider_starts_from_the_clients_own_body() -> None:
    flow = conversation((A, B), FakeHealth(), repairs=True)
    _, _, tries = play(flow, {"a": [E400, E529], "b": [E400, E400, OK]})
    members = [(t.provider.name, "x" in t.body, "y" in t.body) for t in tries]
    assert members == [
        ("a", False, False),
        ("a", True, False),
        ("b", False, False),
        ("b", True, False),
        ("b", True, True),
    ]
    assert tries[0].body is BODY
    assert tries[2].body is BODY


def test_a_rectifier_is_told_what_was_used_before() -> None:
    seen: list[frozenset[str]] = []

    def note(
        provider: Provider, body: Body, refusal: Outcome, used: frozenset[str]
    ) -> tuple[str, Body] | None:
        seen.append(used)
        return repair(provider, body, refusal, used)

    flow = failover(
        BODY, (B,), FakeHealth(), is_final=only_answers, repair=note, backoff=lambda _: 0.0
    )
    play(flow, {"b": [E400, E400, E400]})
    assert seen == [frozenset(), {"x"}, {"x", "y"}]


def test_side_endpoints_hand_on_nothing_but_an_answer() -> None:
    flow = conversation((A, B), FakeHealth(), final=only_answers)
    transcript, result, _ = play(flow, {"a": [E400], "b": [OK]})
    assert transcript == ["a first", "b failover"]
    assert result is OK


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_client_that_leaves_blames_nobody_and_frees_the_place(steps: int) -> None:
    health = FakeHealth()
    flow = conversation((A_RETRIES, B), health)
    next(flow)
    for _ in range(steps - 1):
        flow.send(E500)
    flow.close()
    assert health.begun == ["a"]
    assert health.settled == [("a", None)]


def test_a_client_that_leaves_during_the_wait_for_the_network_frees_all() -> None:
    health = FakeHealth()
    flow = conversation((A, B), health, network_wait=5.0)
    next(flow)
    flow.send(NO_ROUTE)
    assert isinstance(flow.send(NO_ROUTE), Wait)
    flow.close()
    assert health.settled == [("a", None), ("b", None)]


def test_a_client_that_leaves_does_not_clear_who_failed_before() -> None:
    health = FakeHealth()
    flow = conversation((A, B, C), health)
    next(flow)
    flow.send(NO_ROUTE)
    flow.send(E500)
    flow.close()
    assert health.settled == [("b", E500), ("c", None), ("a", NO_ROUTE)]


def test_a_provider_is_looked_at_when_its_turn_comes() -> None:
    admissions = {"b": Admission.OPEN}
    health = FakeHealth(admissions=admissions, until={"b": 1.0})
    flow = conversation((A, B, C), health)
    next(flow)
    admissions["b"] = COOLING
    step = flow.send(E500)
    assert isinstance(step, Try)
    assert step.provider is C


def test_the_half_open_place_is_taken_only_by_a_try() -> None:
    health = FakeHealth()
    flow = conversation((A, B), health)
    play(flow, {"a": [OK]})
    assert health.begun == ["a"]


OUTCOMES = st.sampled_from(
    [OK, E400, E401, E404, E429, E500, E503_BACK_AT, E529, BROKEN, REFUSED, TIMEOUT, NO_ROUTE]
)


@settings(max_examples=200)
@given(
    outcomes=st.lists(OUTCOMES, min_size=80, max_size=80),
    admissions=st.fixed_dictionaries(
        {name: st.sampled_from(Admission) for name in ("a", "b", "c")}
    ),
    repairs=st.booleans(),
    leaves_after=st.integers(0, 12),
)
def test_whatever_happens_each_place_taken_is_freed_once(
    outcomes: list[Outcome], admissions: dict[str, Admission], repairs: bool, leaves_after: int
) -> None:
    health = FakeHealth(admissions=admissions, until={"a": 1.0, "b": 2.0, "c": 3.0})
    flow = conversation((A_RETRIES, B, C), health, repairs=repairs, network_wait=1.0)
    waiting = iter(outcomes)
    reasons: list[Reason] = []
    try:
        step = next(flow)
        for _ in range(leaves_after):
            if isinstance(step, Try):
                reasons.append(step.reason)
                step = flow.send(next(waiting))
            else:
                step = flow.send(None)
    except StopIteration as end:
        assert end.value is None or end.value in outcomes
    flow.close()
    assert sorted(health.begun) == sorted(name for name, _ in health.settled)
    assert reasons.count(Reason.SAFETY_VALVE) <= 1
