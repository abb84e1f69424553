"""The failover loop as dialogues: outcomes go in, and a transcript of the steps comes out."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Config, Failover, KeySource, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.failover import (
    BACKOFF_MAX,
    Admission,
    Ask,
    Flow,
    IsFinal,
    Reason,
    Try,
    Wait,
    backoff_seconds,
    failover,
    is_answer,
    is_final,
    is_offline,
)
from ccfallback.policy.outcome import OF_ACCOUNT, Fault, Outcome
from ccfallback.redact import Secret

DRAFT = RequestDraft(Body.parse(b'{"model":"m","messages":[]}'))

OUTCOMES = {
    "ok": Outcome(Fault.NONE, status=200),
    "400": Outcome(Fault.REQUEST, status=400, message="first refusal"),
    "400-again": Outcome(Fault.REQUEST, status=400, message="second refusal"),
    "400-billing": Outcome(Fault.ACCOUNT, status=400),
    "401": Outcome(Fault.ACCOUNT, status=401),
    "401-login": Outcome(Fault.LOGIN, status=401),
    "403": Outcome(Fault.ACCOUNT, status=403),
    "404": Outcome(Fault.UNKNOWN_MODEL, status=404),
    "404-billing": Outcome(Fault.ACCOUNT, status=404),
    "409": Outcome(Fault.REQUEST, status=409),
    "413": Outcome(Fault.REQUEST, status=413),
    "422": Outcome(Fault.REQUEST, status=422),
    "429": Outcome(Fault.THROTTLED, status=429),
    "429-burst": Outcome(Fault.THROTTLED, status=429, until=1002.0, pause=2.0),
    "429-model": Outcome(Fault.MODEL_THROTTLED, status=429),
    "500": Outcome(Fault.UPSTREAM, status=500),
    "503-back-at": Outcome(Fault.UPSTREAM, status=503, until=1000.0),
    "529": Outcome(Fault.OVERLOADED, status=529),
    "broken-200": Outcome(Fault.UPSTREAM, status=200),
    "refused-200": Outcome(Fault.REQUEST, status=200),
    "tcp-refused": Outcome(Fault.TRANSPORT),
    "timeout": Outcome(Fault.TIMEOUT),
    "hasty-timeout": Outcome(Fault.TIMEOUT, is_hasty=True),
    "no-route": Outcome(Fault.UNREACHABLE),
    "no-connect": Outcome(Fault.CONNECT_TIMEOUT),
    "no-key": Outcome(Fault.ACCOUNT),
    "no-proxy": Outcome(Fault.OWN_MACHINE),
}
NAMES = {outcome: name for name, outcome in OUTCOMES.items()}
OK, E400, E500, E529, NO_ROUTE = (OUTCOMES[n] for n in ("ok", "400", "500", "529", "no-route"))


def provider(name: str, **more: object) -> Provider:
    return Provider(name=name, base_url=f"https://{name}.test", **more)  # type: ignore[arg-type] # the rows below are few


A = provider("a", primary=True)
A_RETRIES = provider("a", primary=True, retry=2)
B = provider("b")
B_AT_A = Provider(name="b", base_url="https://a.test:8443/v1")
C = provider("c")


def keys(provider: Provider, count: int = 2) -> tuple[Provider, ...]:
    """A provider with each of several keys: `k1`, `k2` and so on."""
    literals = tuple(Secret(f"key-{number}") for number in range(count))
    return replace(provider, key=KeySource(literals=literals)).accounts


def short(provider: Provider) -> str:
    """Its name and the number of its key, as the rows below have them."""
    return provider.label.replace(" key ", "")


@dataclass
class FakeHealth:
    """Breakers with admissions that a test sets; they record every call."""

    admissions: dict[str, Admission] = field(default_factory=dict)
    until: Mapping[str, float] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    places: dict[str, bool] = field(default_factory=dict)
    """Whether a half-open provider is free, as only other servers know."""
    settled: list[tuple[str, Outcome | None]] = field(default_factory=list)
    usages: list[Usage | None] = field(default_factory=list)
    now: float = 0.0
    """The clock of the driver."""

    def is_capped(self, _provider: Provider) -> bool:
        return False

    def admission(self, provider: Provider) -> Admission | Ask:
        if self.places.get(short(provider)) is None:
            return self.admissions.get(short(provider), Admission.OPEN)
        return Ask(self._answer)

    async def _answer(self) -> None:
        """Other servers are asked by the driver."""

    def asked(self) -> None:
        """Other servers have said which of the places are free."""
        for name, is_free in self.places.items():
            self.admissions[name] = Admission.OPEN if is_free else Admission.BUSY
        self.places.clear()

    def cooldown_until(self, provider: Provider) -> float:
        return self.until[short(provider)]

    def begin(self, provider: Provider) -> None:
        self.begun.append(short(provider))

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        self.settled.append((short(provider), outcome))
        self.usages.append(usage)


REPAIRS = ("x", "y")


def repair(
    provider: Provider, draft: RequestDraft, refusal: Outcome, used: frozenset[str]
) -> tuple[str, RequestDraft] | None:
    """Knows two repairs of any refusal; each leaves its mark in the body."""
    name = next((name for name in REPAIRS if name not in used), None)
    return (
        None
        if name is None
        else (name, replace(draft, body=draft.body.with_members(**{name: True})))
    )


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
        DRAFT,
        chain,
        health,
        is_final=final or partial(is_final, rules=Failover()),
        repair=repair if repairs else no_repair,
        backoff=lambda retry: 0.25 * retry,
        network_wait=network_wait,
        clock=lambda: health.now,
    )


def play(
    flow: Flow,
    script: Mapping[str, Sequence[Outcome]],
    health: FakeHealth | None = None,
    seconds: float = 0.0,
) -> tuple[list[str], Outcome | None, list[Try]]:
    """Perform the steps with the outcomes of `script`: transcript, result and tries.

    A try takes `seconds` by the clock of `health`.
    """
    health = health or FakeHealth()
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
                    transcript.append(f"{short(step.provider)} {step.reason}")
                    answer = waiting[short(step.provider)].pop(0)
                    health.now += seconds
                case Wait(pause):
                    transcript.append(f"wait {pause:g}")
                    health.now += pause
                    answer = None
                case Ask():
                    transcript.append("ask")
                    health.asked()
                    answer = None
            step = flow.send(answer)
    except StopIteration as end:
        assert not any(waiting.values()), f"never asked for: {waiting}"
        result: Outcome | None = end.value
        return transcript, result, tries


COOLING, BUSY = Admission.COOLING, Admission.BUSY
CHAINS = {"": (), "ab": (A, B), "abc": (A, B, C), "acb": (A, C, B), "Ab": (A_RETRIES, B)}
CHAINS["a-same-host"] = (A, B_AT_A)
CHAINS["akb"] = (A, *keys(provider("k")), B)
CHAINS["kb"] = (*keys(provider("k", primary=True, retry=1)), B)
CHAINS["k"] = keys(provider("k"))
CHAINS["abl"] = (A, B, Provider(name="l", base_url="http://127.0.0.1:9"))


@dataclass(frozen=True)
class Row:
    """One rule as a dialogue, in words."""

    rule: str
    script: str
    """What each provider answers: `a=500 a=ok`."""
    said: str
    """The steps, one after the other."""
    result: str | None
    settled: str
    """The settled outcome of each provider, in order; `-` for none that counts."""
    chain: str = "ab"
    admissions: dict[str, Admission] = field(default_factory=dict)
    until: Mapping[str, float] = field(default_factory=dict)
    on: frozenset[int] = Failover().statuses
    repairs: bool = False
    network_wait: float = 0.0


def final_at_primary(outcome: str, why: str, on: frozenset[int] = Failover().statuses) -> Row:
    return Row(f"{why}: {outcome}", f"a={outcome}", "a first", outcome, "a=-", on=on)


def goes_on(outcome: str, why: str, on: frozenset[int] = Failover().statuses) -> Row:
    script = f"a={outcome} b=ok"
    return Row(f"{why}: {outcome}", script, "a first, b failover", "ok", script, on=on)


NONE: frozenset[int] = frozenset()
BOTH_GONE = "a first, b failover"
AGAIN = "a network-back, b failover"

# fmt: off
ROWS = (
    Row("the first answer is the answer", "a=ok", "a first", "ok", "a=ok"),
    Row("the chain is tried in order", "a=500 c=429 b=ok", "a first, c failover, b failover", "ok",
        "a=500 c=429 b=ok", chain="acb"),
    Row("without an answer there is no result", "a=500 b=529", "a first, b failover", None,
        "a=500 b=529"),
    Row("an empty chain makes no attempt", "", "", None, "", chain=""),
    Row("a cooling provider is skipped", "b=ok", "b first", "ok", "b=ok",
        admissions={"a": COOLING}, until={"a": 9.0}),
    Row("the safety valve is last, and the one whose cooldown ends first", "c=500 b=ok",
        "c first, b safety-valve", "ok", "c=500 b=ok", chain="abc",
        admissions={"a": COOLING, "b": COOLING}, until={"a": 9.0, "b": 5.0}),
    Row("a provider that was given up early gets more time once no other has answered",
        "a=hasty-timeout b=500 a=ok", "a first, b failover, a more-time", "ok",
        "a=hasty-timeout b=500 a=ok"),
    Row("more time is given once", "a=hasty-timeout b=500 a=timeout",
        "a first, b failover, a more-time", None, "a=hasty-timeout b=500 a=timeout"),
    Row("more time comes before the safety valve", "a=hasty-timeout a=timeout b=ok",
        "a first, a more-time, b safety-valve", "ok", "a=hasty-timeout a=timeout b=ok",
        admissions={"b": COOLING}, until={"b": 9}),
    Row("the key that was given up early gets more time", "k1=401 k2=hasty-timeout b=500 k2=ok",
        "k1 first, k2 next-key, b failover, k2 more-time", "ok",
        "k1=401 k2=hasty-timeout b=500 k2=ok", chain="kb"),
    Row("the safety valve is opened once", "b=500", "b safety-valve", None, "b=500", chain="abc",
        admissions={"a": COOLING, "b": COOLING, "c": COOLING}, until={"a": 9.0, "b": 5.0,
        "c": 7.0}),
    Row("a busy provider is skipped", "b=ok", "b first", "ok", "b=ok", admissions={"a": BUSY}),
    Row("a busy provider is tried last, but before the valve", "b=529 a=500 c=ok",
        "b first, a busy-probe, c safety-valve", "ok", "b=529 a=500 c=ok", chain="abc",
        admissions={"a": BUSY, "c": COOLING}, until={"c": 5.0}),
    Row("retries with waits, then failover; all of it one failure",
        "a=500 a=tcp-refused a=529 b=ok",
        "a first, wait 0.25, a retry, wait 0.5, a retry, b failover", "ok", "a=529 b=ok",
        chain="Ab"),
    Row("a successful retry is a success", "a=500 a=ok", "a first, wait 0.25, a retry", "ok",
        "a=ok", chain="Ab"),
    Row("a reset hint means no retry", "a=503-back-at b=ok", "a first, b failover", "ok",
        "a=503-back-at b=ok", chain="Ab"),
    *(Row(f"no retry after {name}", f"a={name} b=ok", "a first, b failover", "ok", f"a={name} b=ok",
          chain="Ab")
      for name in ("401", "404", "429", "429-model", "timeout")),
    Row("after a burst the same provider is tried once more", "a=429-burst a=ok",
        "a first, wait 2, a retry", "ok", "a=ok"),
    Row("after a second burst the next provider is tried", "a=429-burst a=429-burst b=ok",
        "a first, wait 2, a retry, b failover", "ok", "a=429-burst b=ok"),
    Row("a fallback's burst is waited for, too, and the request's own pauses are counted for each",
        "a=429-burst a=500 b=429-burst b=ok",
        "a first, wait 2, a retry, b failover, wait 2, b retry", "ok", "a=500 b=ok"),
    Row("the next key does not wait for the end of a burst", "k1=429-burst k2=ok",
        "k1 first, k2 next-key", "ok", "k1=429-burst k2=ok", chain="kb"),
    Row("a repair goes to the same provider", "a=400 a=ok", "a first, a rectified", "ok", "a=ok",
        repairs=True),
    Row("several repairs in a row, each once; the first refusal stands",
        "a=400 a=400-again a=400-again", "a first, a rectified, a rectified", "400", "a=-",
        repairs=True),
    Row("a repaired request that fails differently is that failure", "a=400 a=529 b=ok",
        "a first, a rectified, b failover", "ok", "a=529 b=ok", repairs=True),
    Row("a repaired request is retried", "a=422 a=500 a=ok",
        "a first, a rectified, wait 0.25, a retry", "ok", "a=ok", chain="Ab", repairs=True),
    *(final_at_primary(name, "another 4xx of the primary is the answer, and does not count")
      for name in ("400", "409", "413", "422")),
    *(Row(f"a fallback's other 4xx goes on: {name}", f"a=500 b={name} c=ok",
          "a first, b failover, c failover", "ok", f"a=500 b={name} c=ok", chain="abc")
      for name in ("400", "409", "413", "422")),
    *(goes_on(name, "a listed status goes on")
      for name in ("401", "403", "404", "429", "500", "529")),
    *(goes_on(name, "always goes on", on=NONE)
      for name in ("400-billing", "404-billing", "tcp-refused", "timeout", "broken-200",
          "refused-200")),
    *(final_at_primary(name, "a status that is not listed is the answer", on=NONE)
      for name in ("401", "403", "404", "429", "500", "529")),
    goes_on("409", "a status that was added goes on", on=frozenset({409})),
    Row("the failover list concerns the primary only", "a=tcp-refused b=401 c=ok",
        "a first, b failover, c failover", "ok", "a=tcp-refused b=401 c=ok", chain="abc", on=NONE),
    final_at_primary("401-login", "an expired login is passed on and does not count"),
    Row("two unreachable hosts mean being offline", "a=no-route b=no-connect", BOTH_GONE,
        None,
        "a=- b=-"),
    *(Row(f"two hosts are down themselves if a third was reached: {third}",
        f"a=no-route b=no-connect c={third}", "a first, b failover, c failover",
        "ok" if third == "ok" else None, f"c={third} a=no-route b=no-connect", chain="abc",
        network_wait=5.0)
      for third in ("ok", "500", "529", "401", "tcp-refused", "timeout", "broken-200")),
    *(Row(f"a third that was not reached shows nothing: {third}",
        f"a=no-route b=no-connect c={third}", "a first, b failover, c failover", None,
        f"c={third} a=- b=-", chain="abc")
      for third in ("no-key",)),
    Row("this machine itself always is reached", "a=no-route b=no-route l=500",
        "a first, b failover, l failover", None, "l=500 a=- b=-", chain="abl"),
    Row("without an outgoing proxy no other is blamed", "a=no-proxy b=no-route",
        BOTH_GONE, None, "a=- b=-"),
    Row("a host that is reached without the proxy shows that another is down",
        "a=no-proxy b=no-route c=ok", "a first, b failover, c failover", "ok",
        "c=ok a=no-proxy b=no-route", chain="abc"),
    Row("one unreachable host is its own failure", "a=no-route b=ok", BOTH_GONE, "ok",
        "b=ok a=no-route"),
    Row("the same host twice is one host", "a=no-route b=no-route", BOTH_GONE, None,
        "a=no-route b=no-route", chain="a-same-host", network_wait=5.0),
    Row("a refused connection was reached", "a=tcp-refused b=no-route", BOTH_GONE, None,
        "a=tcp-refused b=no-route", network_wait=5.0),
    Row("waits for the network, and goes on when it is back",
        "a=no-route b=no-route a=no-route b=no-connect a=ok",
        f"{BOTH_GONE}, wait 0.5, {AGAIN}, wait 0.5, a network-back", "ok",
        "a=- b=- a=- b=- a=ok", network_wait=5.0),
    Row("waits for the network no longer than it may",
        "a=no-route b=no-route a=no-route b=no-route a=no-route b=no-route",
        f"{BOTH_GONE}, wait 0.5, {AGAIN}, wait 0.2, {AGAIN}", None, "a=- b=- a=- b=- a=- b=-",
        network_wait=0.7),
    Row("does not wait for the network if a host was reached", "a=no-route b=no-route c=500",
        "a first, b failover, c failover", None, "c=500 a=no-route b=no-route", chain="abc",
        network_wait=5.0),
    *(Row(f"what concerns an account moves on to the next key: {name}", f"a=500 k1={name} k2=ok",
          "a first, k1 failover, k2 next-key", "ok", f"a=500 k1={name} k2=ok", chain="akb")
      for name in ("401", "403", "429", "429-model", "400-billing", "404-billing", "no-key")),
    *(Row(f"nothing else moves on to the next key: {name}", f"a=500 k1={name} b=ok",
          "a first, k1 failover, b failover", "ok", f"a=500 k1={name} b=ok", chain="akb")
      for name in ("400", "404", "413", "500", "503-back-at", "529", "broken-200", "tcp-refused",
          "timeout")),
    Row("without a good key the next provider is tried", "a=500 k1=401 k2=429 b=ok",
        "a first, k1 failover, k2 next-key, b failover", "ok", "a=500 k1=401 k2=429 b=ok",
        chain="akb"),
    Row("a cooling key is skipped", "a=500 k2=ok", "a first, k2 failover", "ok", "a=500 k2=ok",
        chain="akb", admissions={"k1": COOLING}, until={"k1": 9.0}),
    Row("a provider cools down if all its keys do", "a=500 b=ok", "a first, b failover", "ok",
        "a=500 b=ok", chain="akb", admissions={"k1": COOLING, "k2": COOLING}),
    Row("the safety valve takes the key that is back first", "a=500 b=500 k2=ok",
        "a first, b failover, k2 safety-valve", "ok", "a=500 b=500 k2=ok", chain="akb",
        admissions={"k1": COOLING, "k2": COOLING}, until={"k1": 9.0, "k2": 5.0}),
    Row("the safety valve does not try a provider again that has failed",
        "a=500 k2=529 b=500", "a first, k2 failover, b failover", None, "a=500 k2=529 b=500",
        chain="akb", admissions={"k1": COOLING}, until={"k1": 9.0}),
    Row("the safety valve takes a cooling key of a provider that refused another",
        "a=500 k2=401 b=500 k1=ok", "a first, k2 failover, b failover, k1 safety-valve", "ok",
        "a=500 k2=401 b=500 k1=ok", chain="akb", admissions={"k1": COOLING}, until={"k1": 9.0}),
    Row("a busy key waits for the other keys and providers", "a=500 k2=429 b=500 k1=ok",
        "a first, k2 failover, b failover, k1 busy-probe", "ok", "a=500 k2=429 b=500 k1=ok",
        chain="akb", admissions={"k1": BUSY}),
    Row("a busy key is not asked if its provider failed itself", "a=500 k2=500 b=500",
        "a first, k2 failover, b failover", None, "a=500 k2=500 b=500", chain="akb",
        admissions={"k1": BUSY}),
    Row("keys of an only provider", "k1=429 k2=429", "k1 first, k2 next-key", None,
        "k1=429 k2=429", chain="k"),
    Row("retries are for the provider, not for each key", "k1=500 k1=429 k2=500 b=ok",
        "k1 first, wait 0.25, k1 retry, k2 next-key, b failover", "ok", "k1=429 k2=500 b=ok",
        chain="kb"),
    Row("the first key that is left repairs nothing again", "a=500 k1=400 k1=429 k2=ok",
        "a first, k1 failover, k1 rectified, k2 next-key", "ok", "a=500 k1=429 k2=ok", chain="akb",
        repairs=True),
    Row("each repair once at all keys; the first refusal stands",
        "k1=400 k1=429 k2=400-again k2=400-again",
        "k1 first, k1 rectified, k2 next-key, k2 rectified", "400", "k1=429 k2=-", chain="kb",
        repairs=True),
    Row("another key of the primary comes before its final answer", "k1=401 k2=ok",
        "k1 first, k2 next-key", "ok", "k1=401 k2=ok", chain="kb", on=NONE),
    Row("the refusal of the primary's last key is final", "k1=401 k2=429",
        "k1 first, k2 next-key", "429", "k1=401 k2=429", chain="kb", on=NONE),
    Row("the refusal of the primary's last key that is available is final", "k1=401",
        "k1 first", "401", "k1=401", chain="kb", on=NONE, admissions={"k2": COOLING},
        until={"k2": 9.0}),
    Row("a primary's key that fails otherwise is that failure",
        "k1=401 k2=tcp-refused k2=tcp-refused b=ok",
        "k1 first, k2 next-key, wait 0.25, k2 retry, b failover", "ok",
        "k1=401 k2=tcp-refused b=ok", chain="kb", on=NONE),
    Row("a refusal once the network is back ends the wait", "a=no-route b=no-route a=400",
        f"{BOTH_GONE}, wait 0.5, a network-back", "400", "a=- b=- a=-", network_wait=5.0),
)
# fmt: on


def scripted(script: str) -> dict[str, list[Outcome]]:
    outcomes: dict[str, list[Outcome]] = {}
    for pair in script.split():
        name, _, outcome = pair.partition("=")
        outcomes.setdefault(name, []).append(OUTCOMES[outcome])
    return outcomes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_the_failover_loop_tries_the_chain_as_the_table_says(row: Row) -> None:
    health = FakeHealth(admissions=row.admissions, until=row.until)
    flow = conversation(
        CHAINS[row.chain],
        health,
        final=partial(is_final, rules=Failover(statuses=row.on)),
        repairs=row.repairs,
        network_wait=row.network_wait,
    )
    transcript, result, _ = play(flow, scripted(row.script), health)
    assert ", ".join(transcript) == row.said
    assert result == (None if row.result is None else OUTCOMES[row.result])
    settled = [f"{name}={'-' if o is None else NAMES[o]}" for name, o in health.settled]
    assert " ".join(settled) == row.settled
    assert sorted(health.begun) == sorted(name for name, _ in health.settled)


def test_a_disabled_provider_is_never_tried() -> None:
    config = Config(
        primary=provider("a", primary=True, disabled=True),
        providers=(provider("b", disabled=True), C),
    )
    transcript, _, _ = play(conversation(config.active, FakeHealth()), {"c": [OK]})
    assert transcript == ["c first"]


def test_every_provider_starts_from_the_clients_own_body() -> None:
    flow = conversation((A, B), FakeHealth(), repairs=True)
    _, _, tries = play(flow, {"a": [E400, E529], "b": [E400, E400, OK]})
    members = [(t.provider.name, "x" in t.draft.body, "y" in t.draft.body) for t in tries]
    assert members == [
        ("a", False, False),
        ("a", True, False),
        ("b", False, False),
        ("b", True, False),
        ("b", True, True),
    ]
    assert tries[0].draft is DRAFT
    assert tries[2].draft is DRAFT


def test_the_keys_of_a_provider_share_its_repairs() -> None:
    health = FakeHealth()
    flow = conversation((A, *keys(B)), health, repairs=True)
    limited = OUTCOMES["429"]
    _, _, tries = play(flow, {"a": [E500], "b1": [E400, limited], "b2": [E400, OK]})
    members = [(short(t.provider), "x" in t.draft.body, "y" in t.draft.body) for t in tries]
    assert members[1:] == [
        ("b1", False, False),
        ("b1", True, False),
        ("b2", True, False),
        ("b2", True, True),
    ]


@given(
    st.data(),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.lists(st.booleans(), max_size=4),
)
def test_no_request_is_lost_while_one_key_of_one_provider_works(
    data: st.DataObject, counts: list[int], down: list[bool]
) -> None:
    """A key works if its provider is up and accepts it. Which others are bad does not matter."""
    chain = tuple(
        account
        for index, count in enumerate(counts)
        for account in keys(provider(f"p{index}-", primary=index == 0), count)
    )
    broken = {f"p{index}-" for index, is_down in enumerate(down) if is_down}
    faults = sorted(set(Fault) - {Fault.NONE, Fault.LOGIN, Fault.REQUEST})
    of_account = sorted(OF_ACCOUNT)
    of_server = [fault for fault in faults if fault not in OF_ACCOUNT]
    good = data.draw(st.sampled_from(chain))
    broken.discard(good.name)
    outcomes = {
        short(each): Outcome(data.draw(st.sampled_from(of_server)))
        if each.name in broken
        else OK
        if each is good or data.draw(st.booleans())
        else Outcome(data.draw(st.sampled_from(of_account)))
        for each in chain
    }
    flow = conversation(chain, FakeHealth())
    step, tried = next(flow), []
    with suppress(StopIteration):
        while True:
            assert isinstance(step, Try)
            tried.append(step.provider)
            step = flow.send(outcomes[short(step.provider)])
    assert outcomes[short(tried[-1])] is OK
    assert len({short(each) for each in tried}) == len(tried)
    assert all(
        sum(each.name == name for each in tried) == 1
        for name in broken
        if name in {e.name for e in tried}
    )


def test_a_rectifier_sees_which_ones_were_used() -> None:
    seen: list[frozenset[str]] = []

    def note(
        provider: Provider, draft: RequestDraft, refusal: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        seen.append(used)
        return repair(provider, draft, refusal, used)

    flow = failover(
        DRAFT,
        (B,),
        FakeHealth(),
        is_final=is_answer,
        repair=note,
        backoff=lambda _: 0.0,
        clock=lambda: 0.0,
    )
    play(flow, {"b": [E400, E400, E400]})
    assert seen == [frozenset(), {"x"}, {"x", "y"}]


def test_a_side_endpoint_passes_on_only_an_answer() -> None:
    flow = conversation((A, B), FakeHealth(), final=is_answer)
    transcript, result, _ = play(flow, {"a": [E400], "b": [OK]})
    assert transcript == ["a first", "b failover"]
    assert result is OK


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_client_disconnect_counts_nothing_and_releases_the_slot(steps: int) -> None:
    health = FakeHealth()
    flow = conversation((A_RETRIES, B), health)
    next(flow)
    for _ in range(steps - 1):
        flow.send(E500)
    flow.close()
    assert health.begun == ["a"]
    assert health.settled == [("a", None)]


def test_a_client_disconnect_while_waiting_for_the_network_releases_all_slots() -> None:
    health = FakeHealth()
    flow = conversation((A, B), health, network_wait=5.0)
    next(flow)
    flow.send(NO_ROUTE)
    assert isinstance(flow.send(NO_ROUTE), Wait)
    flow.close()
    assert health.settled == [("a", None), ("b", None)]


@pytest.mark.parametrize(("seconds", "rounds"), [(10.0, 1), (2.5, 1), (2.0, 2), (0.5, 4)])
def test_the_wait_for_the_network_includes_the_time_of_the_attempts(
    seconds: float, rounds: int
) -> None:
    health = FakeHealth()
    gone = [OUTCOMES["no-connect"]] * rounds
    flow = conversation((A, B), health, network_wait=5.0)
    transcript, result, _ = play(flow, {"a": gone, "b": gone}, health, seconds)
    assert result is None
    assert len([step for step in transcript if step.startswith("a ")]) == rounds


@pytest.mark.parametrize("name", ["500", "529", "tcp-refused", "no-route"])
def test_a_network_error_is_retried_like_a_5xx(name: str) -> None:
    flow = conversation((A_RETRIES, B), FakeHealth())
    transcript, result, _ = play(flow, {"a": [OUTCOMES[name], OK]})
    assert transcript == ["a first", "wait 0.25", "a retry"]
    assert result is OK


def test_failures_before_a_client_disconnect_count() -> None:
    health = FakeHealth()
    flow = conversation((A, B, C), health)
    next(flow)
    flow.send(NO_ROUTE)
    flow.send(E500)
    flow.close()
    assert health.settled == [("b", E500), ("c", None), ("a", NO_ROUTE)]


def test_admission_is_checked_when_it_is_a_providers_turn() -> None:
    admissions = {"b": Admission.OPEN}
    health = FakeHealth(admissions=admissions, until={"b": 1.0})
    flow = conversation((A, B, C), health)
    next(flow)
    admissions["b"] = COOLING
    step = flow.send(E500)
    assert isinstance(step, Try)
    assert step.provider is C


def test_only_an_attempt_takes_the_probe_slot() -> None:
    health = FakeHealth()
    flow = conversation((A, B), health)
    play(flow, {"a": [OK]})
    assert health.begun == ["a"]


@given(
    outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=80, max_size=80),
    admissions=st.fixed_dictionaries(
        {name: st.sampled_from(Admission) for name in ("a", "b", "c")}
    ),
    repairs=st.booleans(),
    leaves_after=st.integers(0, 12),
)
def test_each_slot_that_is_taken_is_released_once(
    outcomes: list[str], admissions: dict[str, Admission], repairs: bool, leaves_after: int
) -> None:
    health = FakeHealth(admissions=admissions, until={"a": 1.0, "b": 2.0, "c": 3.0})
    flow = conversation((A_RETRIES, B, C), health, repairs=repairs, network_wait=1.0)
    waiting = iter(outcomes)
    reasons: list[Reason] = []
    with suppress(StopIteration):
        step = next(flow)
        for _ in range(leaves_after):
            if isinstance(step, Try):
                reasons.append(step.reason)
                step = flow.send(OUTCOMES[next(waiting)])
            else:
                step = flow.send(None)
    flow.close()
    assert sorted(health.begun) == sorted(name for name, _ in health.settled)
    # Each round may try it: the one before has reached no provider.
    assert reasons.count(Reason.SAFETY_VALVE) <= 1 + reasons.count(Reason.NETWORK_BACK)


@given(attempt=st.integers(1, 50), chance=st.floats(0, 1))
def test_the_backoff_doubles_up_to_its_maximum(attempt: int, chance: float) -> None:
    ceiling = min(BACKOFF_MAX, 0.5 * 2 ** (attempt - 1))
    assert ceiling / 2 <= backoff_seconds(attempt, lambda: chance) <= ceiling


def test_half_of_the_backoff_is_jitter() -> None:
    assert backoff_seconds(1, lambda: 0.0) == 0.25
    assert backoff_seconds(1, lambda: 1.0) == 0.5
    assert backoff_seconds(3, lambda: 0.5) == 1.5


@pytest.mark.parametrize(
    ("faults", "is_known_online", "offline"),
    [
        ((), False, False),
        (("no-route",), False, False),
        (("no-route", "no-connect"), False, True),
        (("no-route", "no-connect"), True, False),
        (("no-proxy",), False, True),
        (("no-proxy",), True, False),
    ],
)
def test_when_this_machine_is_offline(
    faults: tuple[str, ...], is_known_online: bool, offline: bool
) -> None:
    hosts = (replace(A, base_url="https://a.test"), replace(B, base_url="https://b.test"))
    unreachable = [(host, OUTCOMES[f]) for host, f in zip(hosts, faults, strict=False)]
    assert is_offline(unreachable, is_known_online=is_known_online) is offline


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "127.0.0.2"])
def test_the_loopback_interface_never_shows_that_this_machine_is_offline(name: str) -> None:
    distant = (replace(A, base_url="https://a.test"), OUTCOMES["no-connect"])
    here = (replace(B, base_url=f"http://{name}:1"), OUTCOMES["no-connect"])
    also_here = (replace(B, base_url="http://127.0.0.1:2"), OUTCOMES["no-route"])
    other = (replace(B, base_url="https://b.test"), OUTCOMES["no-route"])
    assert not is_offline([distant, here], is_known_online=False)
    assert not is_offline([here, also_here], is_known_online=False)
    assert is_offline([distant, here, other], is_known_online=False)


def test_one_host_that_fails_in_two_ways_shows_a_fault_of_this_machine() -> None:
    first = replace(A, base_url="https://a.test")
    unreachable = [(first, OUTCOMES["no-route"]), (first, OUTCOMES["no-proxy"])]
    assert is_offline(unreachable, is_known_online=False)
    assert not is_offline(unreachable[:1] * 2, is_known_online=False)


def test_an_error_that_the_client_handles_waits_for_the_other_keys() -> None:
    keys = replace(A, key=KeySource(literals=(Secret("x"), Secret("y")))).accounts
    final = partial(is_final, rules=Failover(statuses=frozenset()))
    refused = OUTCOMES["401"]
    flow = conversation((*keys, B), FakeHealth(), final=final)
    transcript, result, _ = play(flow, {"a1": [refused], "a2": [refused]})
    assert len(transcript) == 2
    assert result is refused
    flow = conversation(keys, FakeHealth(), final=final)
    _, result, _ = play(flow, {"a1": [refused], "a2": [refused]})
    assert result is refused


@pytest.mark.parametrize(
    ("is_free", "expected"),
    [
        (True, ["ask", "a first"]),
        (False, ["ask", "b first"]),
    ],
)
def test_a_half_open_provider_is_tried_if_no_other_server_probes_it(
    is_free: bool, expected: list[str]
) -> None:
    health = FakeHealth(places={"a": is_free})
    script = {"a" if is_free else "b": [OUTCOMES["ok"]]}
    transcript, result, _ = play(conversation((A, B), health), script, health)
    assert transcript == expected
    assert result is OUTCOMES["ok"]
    assert health.begun == expected[-1][:1].split()


def test_a_provider_that_another_server_probes_is_tried_if_no_other_is_left() -> None:
    health = FakeHealth(places={"a": False})
    script = {"b": [OUTCOMES["500"]], "a": [OUTCOMES["ok"]]}
    transcript, result, _ = play(conversation((A, B), health), script, health)
    assert transcript == ["ask", "b first", "a busy-probe"]
    assert result is OUTCOMES["ok"]
