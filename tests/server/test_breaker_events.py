"""What the log says of breakers: skips, cooldowns and recoveries, each with its numbers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Config, KeySource, Provider
from ccfallback.messages.tokens import Usage
from ccfallback.policy.breaker import Limits
from ccfallback.policy.failover import Admission, Ask
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import Secret
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_credentials import hash_credential
from ccfallback.server.health import RequestHealth
from ccfallback.server.record import Record, Recorder
from ccfallback.state.store import BreakerId, MemoryStore

NOW = 1_700_000_000.0
A = Provider(name="a", base_url="https://a.test", primary=True)
WELL = Outcome(Fault.NONE, status=200)
E500 = Outcome(Fault.UPSTREAM, "500 api_error", 500)
QUOTA = Outcome(Fault.THROTTLED, "429 rate_limit_error", 429, until=NOW + 7200, hint="retry-after")


@dataclass
class Story:
    """Requests to one provider, one after the other."""

    now: float = NOW
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        recorder = Recorder(None)
        recorder.listeners.append(self.records.append)
        self.breakers = Breakers(MemoryStore(), recorder, lambda: self.now)
        self.breakers.configure(Config(primary=A))

    def request(self, login: str = "home", **more: Any) -> RequestHealth:
        return RequestHealth(
            self.breakers, Limits(), "m", "id", find_credential=lambda _provider: login, **more
        )

    def sentence(self) -> str:
        return self.records[-1].message

    def run(self, outcome: Outcome, login: str = "home") -> None:
        request = self.request(login)
        request.begin(A)
        request.settle(A, outcome)

    def said(self, event: str) -> list[dict[str, Any]]:
        found = [record for record in self.records if record.event == f"circuit_breaker.{event}"]
        return [msgspec.to_builtins(record)["data"] for record in found]


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_cooldown_says_how_long_and_why(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    (said,) = story.said("cooldown")
    assert said["provider"] == "a"
    assert said["cooldownUntil"] == round((NOW + 30) * 1000)
    assert (said["seconds"], said["failures"], said["reason"]) == (30, 3, "500 api_error")
    assert said.get("model") is None
    assert said.get("hint") is None


def test_a_cooldown_that_ends_while_a_request_waits_for_others_still_puts_it_off(
    story: Story,
) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 31
    assert story.request(arrived=monotonic() - 5).admission(A) is Admission.BUSY
    assert "was cooling down when the request came in" in story.sentence()
    assert story.request(arrived=monotonic()).admission(A) is Admission.OPEN
    assert story.request().admission(A) is Admission.OPEN


def test_a_cooldown_by_a_hint_names_the_hint(story: Story) -> None:
    story.run(QUOTA)
    (said,) = story.said("cooldown")
    assert (said["seconds"], said["failures"], said["hint"]) == (7200, 1, "retry-after")


def test_a_cooldown_of_one_model_counts_the_failures_of_that_model(story: Story) -> None:
    story.run(E500)
    for _ in range(3):
        story.run(Outcome(Fault.OVERLOADED, "529 overloaded_error", 529))
    (said,) = story.said("cooldown")
    assert (said["model"], said["failures"]) == ("m", 3)


def test_a_failure_that_does_not_change_a_cooldown_is_not_logged_again(story: Story) -> None:
    first, second = story.request(), story.request()
    first.begin(A)
    second.begin(A)
    story.now += 1
    first.settle(A, QUOTA)
    second.settle(A, QUOTA)
    assert len(story.said("cooldown")) == 1


def test_a_skip_is_logged_with_its_end_and_reason(story: Story) -> None:
    story.run(QUOTA)
    story.now += 60
    request = story.request()
    assert request.admission(A) is Admission.COOLING
    (said,) = story.said("skip")
    assert said["cooldownUntil"] == round((NOW + 7200) * 1000)
    assert (said["reason"], said["failures"], said["probe"]) == ("429 rate_limit_error", 1, False)
    assert said["since"] == said["lastFailure"] == round(NOW * 1000)


def test_a_skip_because_of_a_running_probe_is_logged(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 31
    probing, other = story.request(), story.request()
    assert probing.admission(A) is Admission.OPEN
    probing.begin(A)
    assert other.admission(A) is Admission.BUSY
    (said,) = story.said("skip")
    assert said["probe"] is True
    probing.settle(A, None)
    assert other.admission(A) is Admission.OPEN


def test_a_recovery_is_logged_once_and_only_after_a_cooldown(story: Story) -> None:
    story.run(WELL)
    story.run(E500)
    story.run(WELL)
    assert not story.said("reset")
    for _ in range(3):
        story.run(E500)
    story.now += 31
    story.run(WELL)
    story.run(WELL)
    (said,) = story.said("reset")
    assert (said["provider"], said["by"]) == ("a", "success")


def test_an_answer_to_another_login_is_not_logged_as_a_recovery(story: Story) -> None:
    story.run(QUOTA)
    story.now += 10
    story.run(WELL, "work")
    assert not story.said("reset")
    assert story.request().admission(A) is Admission.COOLING
    assert story.request("work").admission(A) is Admission.OPEN


def test_one_request_at_a_time_probes_a_long_cooldown_early(story: Story) -> None:
    story.run(QUOTA)
    story.now += 901
    probing, other = story.request(), story.request()
    assert probing.admission(A) is Admission.OPEN
    probing.begin(A)
    # It is not half-open to the others: they have not even a busy probe.
    assert other.admission(A) is Admission.COOLING
    probing.settle(A, None)
    assert other.admission(A) is Admission.COOLING
    story.now += 901
    assert story.request().admission(A) is Admission.OPEN


# -- Whose credential it is


def test_a_credential_is_identified_by_what_the_provider_receives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_KEY", "one")
    bearer = [(b"authorization", b"Bearer x")]
    found = hash_credential(A, bearer)
    assert found == hash_credential(A, [(b"x-api-key", b"x")])
    assert found != hash_credential(A, [(b"authorization", b"Bearer y")])
    assert found != hash_credential(A, [])
    # Access tokens of this proxy go to no provider.
    assert hash_credential(A, bearer, frozenset({b"x"})) == hash_credential(A, [])
    by_variable = Provider(name="b", base_url="https://b.test", key=KeySource(env="SOME_KEY"))
    before = hash_credential(by_variable, bearer)
    monkeypatch.setenv("SOME_KEY", "two")
    assert before != hash_credential(by_variable, bearer)
    keyless = Provider(name="c", base_url="https://c.test")
    assert hash_credential(keyless, bearer) == ""


# -- The sentences, keys and models of the records


OVERLOADED = Outcome(Fault.OVERLOADED, "529 overloaded_error", 529)
ONE, TWO = Provider(
    name="k",
    base_url="https://k.test",
    key=KeySource(literals=(Secret("first"), Secret("second"))),
).accounts


def test_each_sentence_says_what_happens_to_the_provider(story: Story) -> None:
    story.run(QUOTA)
    assert story.sentence() == (
        "a: cooling down for 2.0 h after 1 failure, last with 429 rate_limit_error"
    )
    story.now += 60
    assert story.request().admission(A) is Admission.COOLING
    assert story.sentence() == "a is skipped: it is cooling down for another 2.0 h"
    story.now += 7200
    story.run(WELL)
    assert story.sentence() == "a answers again"


def test_the_sentences_of_one_model_name_it(story: Story) -> None:
    for _ in range(3):
        story.run(OVERLOADED)
    assert story.sentence().startswith("a for m: cooling down for 30 s after 3 failures in a row")
    assert story.request().admission(A) is Admission.COOLING
    (said,) = story.said("skip")
    assert (said["model"], said["reason"], said["failures"]) == ("m", "529 overloaded_error", 3)
    assert said["probe"] is False


def test_a_busy_probe_has_no_time_left(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 30
    probing = story.request()
    assert probing.admission(A) is Admission.OPEN
    probing.begin(A)
    assert story.request().admission(A) is Admission.BUSY
    assert story.sentence() == "a is skipped: it is being probed by another request"
    (said,) = story.said("skip")
    assert (said["probe"], said.get("model")) == (True, None)


def test_the_skip_of_the_longer_cooldown_is_told(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.run(Outcome(Fault.MODEL_THROTTLED, "429 rate_limit_error", 429, until=NOW + 3600))
    assert story.request().admission(A) is Admission.COOLING
    (said,) = story.said("skip")
    assert (said["model"], said["reason"]) == ("m", "429 rate_limit_error")
    assert said["cooldownUntil"] == round((NOW + 3600) * 1000)


def test_records_name_the_key_where_there_are_several(story: Story) -> None:
    story.run(QUOTA)
    assert "key" not in story.said("cooldown")[0]
    story.records.clear()
    story.breakers.configure(
        Config(primary=A, providers=(replace(ONE, key=ONE.key.whole or ONE.key),))
    )
    request = story.request("hash-of-the-first")
    request.begin(ONE)
    request.settle(ONE, QUOTA)
    assert request.failed == {"k"}
    assert request.urgent
    assert request.admission(ONE) is Admission.COOLING
    assert story.request("hash-of-the-second").admission(TWO) is Admission.OPEN
    story.now += 7201
    again = story.request("hash-of-the-first")
    again.begin(ONE)
    again.settle(ONE, WELL)
    for event in ("cooldown", "skip", "reset"):
        (said,) = story.said(event)
        assert (said["provider"], said["key"]) == ("k", 1)


def test_the_only_provider_does_not_wait_but_its_keys_do(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    alone = RequestHealth(story.breakers, Limits(cooldowns=False), "m", "id")
    assert alone.admission(A) is Admission.OPEN


def test_a_probe_of_one_login_does_not_block_another(story: Story) -> None:
    story.run(QUOTA, "home")
    story.run(QUOTA, "work")
    story.now += 901
    home, work = story.request("home"), story.request("work")
    assert home.admission(A) is Admission.OPEN
    home.begin(A)
    assert work.admission(A) is Admission.OPEN
    work.begin(A)
    assert story.request("home").admission(A) is Admission.COOLING


def test_only_providers_with_failures_are_troubled(story: Story) -> None:
    story.run(WELL)
    assert not story.breakers.troubled
    story.run(E500)
    assert story.breakers.troubled == {"a"}
    story.run(WELL)
    assert not story.breakers.troubled
    story.run(QUOTA)
    assert story.breakers.troubled == {"a"}
    story.breakers.states = {}
    assert not story.breakers.troubled
    assert story.request().admission(A) is Admission.OPEN


def test_a_clean_answer_leaves_nothing_to_save(story: Story) -> None:
    request = story.request()
    request.begin(A)
    request.settle(A, WELL)
    assert not request.urgent
    assert not request.failed
    failed = story.request()
    failed.begin(A)
    failed.settle(A, Outcome(Fault.REQUEST, "400", 400))
    assert not failed.urgent
    assert not failed.failed
    story.run(E500)
    after_failure = story.request()
    after_failure.begin(A)
    after_failure.settle(A, WELL)
    assert after_failure.urgent
    assert story.breakers.quick_state("a").failures == 0


class FakeBill:
    """Notes what is reserved and released."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.capped = False

    def is_capped(self, provider: Provider) -> bool:
        return self.capped

    def reserve(self, provider: Provider) -> None:
        self.calls.append("reserve")

    def release(self, provider: Provider) -> None:
        self.calls.append("release")


@pytest.mark.parametrize(
    ("outcome", "calls"),
    [
        (E500, ["reserve", "release"]),
        (WELL, ["reserve"]),
        (E500.but(usage=Usage(input_tokens=5)), ["reserve"]),
        (None, ["reserve"]),
        (Outcome(Fault.NONE, status=200, complete=False), ["reserve"]),
    ],
)
def test_what_a_failure_did_not_cost_is_released(
    story: Story, outcome: Outcome | None, calls: list[str]
) -> None:
    bill = FakeBill()
    request = story.request(bill=bill)
    request.begin(A)
    request.settle(A, outcome)
    assert bill.calls == calls
    assert not request.is_capped(A)
    bill.capped = True
    assert request.is_capped(A)
    assert not story.request().is_capped(A)


def test_an_answer_whose_attempt_began_before_the_cooldown_does_not_end_it(story: Story) -> None:
    early = story.request()
    early.begin(A)
    story.now += 1
    for _ in range(3):
        story.run(E500)
    story.now += 1
    early.settle(A, WELL)
    assert story.breakers.state("a").cooldown_until is not None
    assert story.request().admission(A) is Admission.COOLING


def test_an_answer_without_a_beginning_is_one_of_now(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 31
    story.request().settle(A, WELL)
    assert story.breakers.state("a").cooldown_until is None


def test_only_an_early_probe_is_noted(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 31
    before = story.breakers.state("a")
    story.request().begin(A)
    assert story.breakers.state("a") == before
    story.run(msgspec.structs.replace(QUOTA, until=story.now + 7200))
    story.now += 1000
    first = story.request()
    first.begin(A)
    found = story.breakers.state("a").credentials["home"]
    assert found.probed == story.now


@pytest.mark.parametrize(("key", "cools"), [(0, False), (1, True)])
def test_a_key_cools_down_alone_only_if_there_are_others(
    story: Story, key: int, cools: bool
) -> None:
    provider = replace(A, key=replace(A.key, number=key))
    request = RequestHealth(
        story.breakers, Limits(cooldowns=False), "m", "id", find_credential=lambda _: "hash"
    )
    request.begin(provider)
    request.settle(provider, QUOTA)
    assert bool(story.said("cooldown")) is cools


def test_the_seconds_of_a_cooldown_are_told_in_milliseconds(story: Story) -> None:
    story.run(msgspec.structs.replace(QUOTA, until=NOW + 100.12345))
    (said,) = story.said("cooldown")
    assert said["seconds"] == 100.123


def test_a_failure_that_opens_nothing_is_no_cooldown(story: Story) -> None:
    story.run(msgspec.structs.replace(QUOTA, until=NOW))
    assert not story.said("cooldown")


def test_half_a_second_of_a_cooldown_is_left(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    story.now += 29.5
    assert story.request().admission(A) is Admission.COOLING
    assert story.sentence() == "a is skipped: it is cooling down for another 1 s"
    (said,) = story.said("skip")
    assert said["probe"] is False


def test_of_two_cooldowns_with_one_end_that_of_the_provider_is_told(story: Story) -> None:
    story.run(Outcome(Fault.THROTTLED, "429 of all", 429, until=NOW + 60), "")
    story.run(Outcome(Fault.MODEL_THROTTLED, "429 of the model", 429, until=NOW + 60), "")
    assert story.request("").admission(A) is Admission.COOLING
    (said,) = story.said("skip")
    assert (said.get("model"), said["reason"]) == (None, "429 of all")


class Places:
    """Probe places that another server may have, and what happens while this one is asked."""

    def __init__(self) -> None:
        self.are_free = True
        self.meanwhile: Callable[[], None] = lambda: None
        self.released: list[str] = []

    def take(self, breakers: Iterable[BreakerId]) -> bool:
        assert list(breakers)
        self.meanwhile()
        return self.are_free

    def release(self, breakers: Iterable[BreakerId]) -> None:
        self.released += [each.provider for each in breakers]


class SharedStore(MemoryStore):
    """A state that other servers share."""

    def __init__(self) -> None:
        super().__init__()
        self.patience = 10.0
        self.shared = Places()
        self.places = self.shared  # type: ignore[assignment]  # others have none


async def asked(request: RequestHealth) -> Admission:
    """What an admission comes to, where other servers are asked first."""
    found = request.admission(A)
    if isinstance(found, Ask):
        await found.call()
        found = request.admission(A)
    assert isinstance(found, Admission)
    return found


async def test_a_request_probes_only_where_no_other_server_does() -> None:
    store, story = SharedStore(), Story()
    recorder = story.breakers.recorder
    story.breakers = Breakers(store, recorder, lambda: story.now)
    story.breakers.configure(Config(primary=A))
    for _ in range(3):
        story.run(E500)
    # Nothing is asked while it cools down.
    assert story.request().admission(A) is Admission.COOLING
    story.now += 31
    probing, other, late = story.request(), story.request(), story.request()
    assert await asked(probing) is Admission.OPEN
    # Another request of this server does not have to ask.
    assert await asked(other) is Admission.BUSY
    probing.begin(A)
    probing.settle(A, None)
    store.shared.are_free = False
    assert await asked(late) is Admission.BUSY
    assert await asked(late) is Admission.BUSY
    # What another server probes is free here.
    store.shared.are_free = True
    again = story.request()
    store.shared.meanwhile = lambda: story.run(E500)
    # Another server's probe has failed while this one was asked.
    assert await asked(again) is Admission.COOLING
    await story.breakers.flush(again=True)
    # By the probe, and by those that got no place, or one that they may not use any more.
    assert store.shared.released == ["a", "a", "a"]
    story.now += 61
    store.shared.meanwhile = lambda: None
    assert await asked(story.request()) is Admission.OPEN
    story.breakers.close()


def test_the_cooldowns_of_a_chain_are_those_that_have_not_ended(story: Story) -> None:
    for _ in range(3):
        story.run(E500)
    b = Provider(name="b", base_url="https://b.test")
    until = story.breakers.state("a").cooldown_until
    assert story.request().cooldowns((A, b)) == {"a": until}
    assert until is not None
    story.now = until
    assert story.request().cooldowns((A, b)) == {}
