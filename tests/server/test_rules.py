"""The rules of the chain over real sockets, each under its name in `tests/policy/test_rules.py`."""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.messages.thinking import mark
from ccfallback.policy.breaker import AT_ONCE, BreakerState
from ccfallback.simulator import scripted
from ccfallback.simulator.faults import UNKNOWN_HOST, ScriptedFault
from ccfallback.simulator.scripted import Connection, Hangup, Received
from ccfallback.simulator.scripted_format import ScriptedFormat
from ccfallback.state.file import StateFile
from tests.conftest import Chain, together
from tests.network import Stage
from tests.policy import test_rules as dialogues
from tests.rules import CAPPED, MODEL, MOST, RULES, TIERS, Counts, Rule, Said
from tests.simulator import BY_ID

ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}
PRIMARY = "anthropic-primary"
E500 = scripted.error(500, "api_error")
E529 = scripted.error(529, "overloaded_error")
WELL = scripted.reply("well")
SLACK = 25.0
"""Seconds that may pass between an answer and the look at what it left; fewer than lie between
any two of the cooldowns."""


def ask(
    chain: Chain, *, stream: bool = False, headers: Mapping[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {**ASK, "stream": stream, **more}
    return httpx.post(f"{chain.url}/v1/messages", json=body, headers=headers or {}, timeout=30)


def asked(response: httpx.Response) -> tuple[str, str]:
    """The provider that answered, and the number of attempts."""
    headers = response.headers
    return headers["x-ccfallback-provider"], headers["x-ccfallback-attempts"]


def failed_before(chain: Chain, failures: int, **more: Any) -> None:
    """Give the primary so many failures in a row, long ago."""
    known = BreakerState(failures=failures, last_failure=time() - 600, reason="before", **more)
    StateFile(chain.proxy.paths.state).update(lambda _: {PRIMARY: known})


def half_open(chain: Chain, failures: int = 3) -> None:
    """Give the primary a cooldown that ended a moment ago."""
    failed_before(chain, failures, cooldown_until=time() - 1, cooldown_began=time() - 31)


def cools(state: Mapping[str, Any]) -> float | None:
    """Seconds of cooldown from the last failure on."""
    until: int | None = state["cooldownUntil"]
    return None if until is None else (until - state["lastFailure"]) / 1000


def fault_of(rule: Rule) -> ScriptedFault:
    if isinstance(rule.does, Said):
        said = rule.does
        script = scripted.error(said.status, said.kind, said.message, said.headers(time()))
        return ScriptedFault(rule.id, "", lambda _: script)
    return BY_ID.get(rule.does, ScriptedFault("well", "", ScriptedFormat.works))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_what_counts(stage: Stage, rule: Rule) -> None:
    hasty = rule.comes_to is not None and rule.comes_to.fault in AT_ONCE
    primary = not rule.at_fallback
    name = stage.set(fault_of(rule), "anthropic", primary=primary, hasty=hasty)
    stage.failed_before(name, 1)
    if rule.torn:
        with pytest.raises(httpx.RemoteProtocolError):
            stage.ask(stream=True)
        stage.proxy.wait_for("request.error")
    else:
        response = stage.ask(stream=rule.stream)
        assert asked(response) == (("well", "2") if rule.goes_on else (name, "1"))
        if isinstance(rule.does, Said) and not rule.goes_on:
            assert (response.status_code, response.content) == (rule.does.status, rule.does.body)
        else:
            assert response.status_code == 200
    if rule.comes_to is not None and not rule.comes_to.ok:
        failed = stage.proxy.events("provider.failure", "provider.timeout")[0]["data"]
        assert failed["fault"] == rule.comes_to.fault
        assert failed["status"] == rule.comes_to.status or rule.torn
    state = stage.proxy.state[name]
    expected = {Counts.SUCCESS: 0, Counts.PROVIDER: 2}.get(rule.counts, 1)
    assert state["consecutiveFailures"] == expected
    models = {model: known["consecutiveFailures"] for model, known in state["models"].items()}
    assert models == ({MODEL: 1} if rule.counts is Counts.MODEL else {})
    found = cools(state["models"][MODEL] if rule.counts is Counts.MODEL else state)
    if rule.cools is None:
        assert found is None
    else:
        assert found is not None
        assert rule.cools - SLACK < found <= rule.cools + 0.002


def test_every_rule_has_its_dialogue_and_its_sockets() -> None:
    def names(of: Mapping[str, object]) -> set[str]:
        return {name for name in of if name.startswith(("test_rule_", "test_what_counts"))}

    assert names(vars(dialogues)) == names(globals())
    numbers = {int(name.split("_")[2]) for name in names(globals()) if "rule" in name}
    assert numbers == set(range(1, 12))


def test_rule_1_the_primary_is_tried_first_and_then_each_in_order(
    chain: Callable[..., Chain],
) -> None:
    running = chain(E500, E529, WELL)
    assert asked(ask(running)) == ("fallback2", "3")
    order = [record["data"]["provider"] for record in running.proxy.events("provider.attempt")]
    assert order == [PRIMARY, "fallback1", "fallback2"]


def test_rule_1_a_disabled_provider_is_not_tried(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL, WELL)
    config = running.proxy.paths.config
    text = config.read_text().replace("[primary]", "[primary]\ndisabled = true")
    config.write_text(text.replace('name = "fallback1"', 'name = "fallback1"\ndisabled = true'))
    assert asked(ask(running)) == ("fallback2", "1")
    assert running.primary.received == running.fallback.received == []


def test_rule_1_a_request_may_exclude_the_primary(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL)
    assert asked(ask(running, headers={"x-ccf-debug-skip-anthropic": "1"})) == ("fallback1", "1")
    assert running.primary.received == []


def test_rule_1_a_cooling_provider_is_skipped(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL)
    failed_before(running, 3, cooldown_until=time() + 200)
    assert asked(ask(running)) == ("fallback1", "1")
    assert running.proxy.events("circuit_breaker.skip")


def test_rule_2_the_first_success_is_the_answer(chain: Callable[..., Chain]) -> None:
    running = chain(E500, WELL, WELL)
    assert asked(ask(running)) == ("fallback1", "2")
    assert running.fallbacks[1].received == []


def test_rule_2_without_a_fallback_the_primarys_own_failure_is_the_answer(
    chain: Callable[..., Chain],
) -> None:
    body = b'{"type":"error",  "error":{"type":"overloaded_error","message":"Overloaded"}}'
    running = chain(scripted.answer(529, body, headers={"retry-after": "7"}))
    response = ask(running)
    assert (response.status_code, response.content) == (529, body)
    assert response.headers["retry-after"] == "7"
    running.primary.script(scripted.reset)
    response = ask(running)
    assert (response.status_code, response.json()["error"]["type"]) == (502, "proxy_error")


def test_rule_2_all_failures_are_listed_in_one_error(chain: Callable[..., Chain]) -> None:
    response = ask(chain(E529, E500))
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (502, "fallback_exhausted")
    assert [attempt["status"] for attempt in error["attempts"]] == [529, 500]


def test_rule_2_the_primarys_404_is_passed_on(chain: Callable[..., Chain]) -> None:
    body = b'{"type":"error", "error":{"type":"not_found_error","message":"model: claude-x"}}'
    response = ask(chain(scripted.answer(404, body), E500))
    assert (response.status_code, response.content) == (404, body)
    assert response.headers["x-ccfallback-attempts"] == "2"


def test_rule_2_a_prompt_too_long_for_a_fallback_is_reported_in_words_that_the_client_knows(
    chain: Callable[..., Chain],
) -> None:
    words = "This model's maximum context length is 9"
    small = scripted.error(400, "invalid_request_error", words)
    no_key = scripted.error(401, "authentication_error")
    response = ask(chain(no_key, small))
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("prompt is too long: ")


def test_rule_2_the_client_waits_for_a_primary_that_is_back_soon_and_does_not_compact(
    chain: Callable[..., Chain],
) -> None:
    words = "prompt is too long: 150000 tokens > 65536 maximum"
    running = chain(
        [scripted.error(529, "overloaded_error"), scripted.reply("primary")],
        scripted.error(400, "invalid_request_error", words),
    )
    response = ask(running)
    assert response.status_code == 502
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "x-should-retry" not in response.headers
    assert "primary" in ask(running).text


def test_rule_3_the_provider_that_is_back_first_is_the_safety_valve(
    chain: Callable[..., Chain],
) -> None:
    def until(seconds: float) -> scripted.Script:
        return scripted.error(429, "rate_limit_error", headers={"retry-after": f"{seconds}"})

    running = chain(until(200), until(100), E500)
    ask(running)
    running.primary.script(WELL)
    running.fallback.script(WELL)
    assert asked(ask(running)) == ("fallback1", "2")
    assert running.proxy.events("safety_valve.triggered")[0]["data"]["provider"] == "fallback1"
    assert running.proxy.state["fallback1"]["cooldownUntil"] is None
    assert running.proxy.state[PRIMARY]["cooldownUntil"] is not None


def test_rule_4_with_one_active_provider_nothing_cools(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.hang, more="[timeouts]\nnon_streaming = 0.05\n")
    failed_before(running, 9)
    for count in range(10, 13):
        assert ask(running).status_code == 502
        state = running.proxy.state[PRIMARY]
        assert (state["consecutiveFailures"], state["cooldownUntil"]) == (count, None)


@pytest.mark.parametrize(("count", "seconds"), TIERS.items())
def test_rule_5_more_failures_make_a_longer_cooldown(
    chain: Callable[..., Chain], count: int, seconds: float | None
) -> None:
    running = chain(E500, WELL)
    failed_before(running, count - 1)
    ask(running)
    state = running.proxy.state[PRIMARY]
    assert state["consecutiveFailures"] == count
    assert cools(state) == seconds


@pytest.mark.parametrize(("count", "seconds"), CAPPED.items())
def test_rule_5_max_cooldown_caps_every_tier(
    chain: Callable[..., Chain], count: int, seconds: float
) -> None:
    running = chain(E500, WELL, more=f"[breaker]\nmax_cooldown = {MOST}\n")
    failed_before(running, count - 1)
    ask(running)
    assert cools(running.proxy.state[PRIMARY]) == seconds


class Probe:
    """A request that waits at the primary until it is let go."""

    def __init__(self, chain: Callable[..., Chain], fallback: scripted.Script) -> None:
        self._there, self._go_on = threading.Event(), threading.Event()

        async def slow(request: Received, connection: Connection) -> None:
            self._there.set()
            await asyncio.to_thread(self._go_on.wait, 10)
            await WELL(request, connection)

        self.chain = chain([slow, WELL], fallback)
        half_open(self.chain)

    def with_others(self, story: Callable[[], None]) -> httpx.Response:
        """Let it begin, let others come, let it end."""
        with ThreadPoolExecutor(1) as pool:
            try:
                probe = pool.submit(ask, self.chain)
                assert self._there.wait(10)
                story()
            finally:
                self._go_on.set()
            return probe.result()


def test_rule_5_one_request_at_a_time_probes(chain: Callable[..., Chain]) -> None:
    probe = Probe(chain, WELL)

    def others() -> None:
        assert {asked(ask(probe.chain)) for _ in range(3)} == {("fallback1", "1")}

    assert asked(probe.with_others(others)) == (PRIMARY, "1")
    assert len(probe.chain.primary.received) == 1
    assert probe.chain.proxy.events("circuit_breaker.reset")
    state = probe.chain.proxy.state[PRIMARY]
    assert (state["consecutiveFailures"], state["cooldownUntil"]) == (0, None)
    assert asked(ask(probe.chain)) == (PRIMARY, "1")


def test_rule_5_without_another_provider_several_requests_probe(
    chain: Callable[..., Chain],
) -> None:
    probe = Probe(chain, E500)

    def another() -> None:
        assert asked(ask(probe.chain)) == (PRIMARY, "2")

    assert asked(probe.with_others(another)) == (PRIMARY, "1")


def test_rule_5_a_failed_probe_is_one_more_failure(chain: Callable[..., Chain]) -> None:
    running = chain(E500, WELL)
    half_open(running, failures=4)
    ask(running)
    state = running.proxy.state[PRIMARY]
    assert (state["consecutiveFailures"], cools(state)) == (5, 60)


EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("some text")))


def test_rule_6_a_stream_is_a_success_only_at_its_end(chain: Callable[..., Chain]) -> None:
    go_on = threading.Event()

    async def rest(_request: Received, connection: Connection) -> None:
        await asyncio.to_thread(go_on.wait, 10)
        for event in EVENTS[3:]:
            await connection.chunk(event)

    running = chain([scripted.stream(EVENTS[:3], then=rest), E500], WELL)
    half_open(running)
    with httpx.stream("POST", f"{running.url}/v1/messages", json={**ASK, "stream": True}) as one:
        parts = one.iter_raw()
        next(parts)
        assert running.proxy.state[PRIMARY]["consecutiveFailures"] == 3
        # The place is free: the next one probes as well, and fails.
        assert asked(ask(running)) == ("fallback1", "2")
        assert running.proxy.state[PRIMARY]["consecutiveFailures"] == 4
        go_on.set()
        assert b"".join(parts).endswith(EVENTS[-1])
    running.proxy.wait_for("request.complete", 2)


def test_rule_6_two_unreachable_hosts_count_as_no_failure(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL)
    running.proxy.paths.config.write_text(
        f'[primary]\nbase_url = "http://{UNKNOWN_HOST}.invalid"\n'
        f'[[providers]]\nname = "b"\nbase_url = "http://{UNKNOWN_HOST}.test"\n'
        f'[[providers]]\nname = "c"\nbase_url = "{running.primary.url}"\n'
    )
    assert asked(ask(running)) == ("c", "3")
    assert not running.proxy.state.keys() & {PRIMARY, "b"}


def test_rule_6_a_refused_connection_was_reached(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL)
    running.proxy.paths.config.write_text(
        f'[primary]\nbase_url = "http://{UNKNOWN_HOST}.invalid"\n'
        '[[providers]]\nname = "b"\nbase_url = "http://127.0.0.1:1"\n'
        f'[[providers]]\nname = "c"\nbase_url = "{running.primary.url}"\n'
    )
    assert asked(ask(running)) == ("c", "3")
    state = running.proxy.state
    assert [state[name]["consecutiveFailures"] for name in (PRIMARY, "b")] == [1, 1]


def test_rule_6_a_request_waits_for_this_machines_own_network(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, more="[breaker]\nnetwork_wait = 0.1\n")
    running.proxy.paths.config.write_text(
        f'[breaker]\nnetwork_wait = 0.1\n[primary]\nbase_url = "http://{UNKNOWN_HOST}.invalid"\n'
        f'[[providers]]\nname = "b"\nbase_url = "http://{UNKNOWN_HOST}.test"\n'
    )
    response = ask(running)
    assert response.status_code == 502
    assert "this machine seems to be offline" in response.json()["error"]["message"]
    reasons = [each["data"]["reason"] for each in running.proxy.events("provider.attempt")]
    assert reasons == ["first", "failover", "network-back", "failover"]


def test_rule_6_a_client_disconnect_counts_as_no_failure(chain: Callable[..., Chain]) -> None:
    arrived, left = threading.Event(), threading.Event()

    async def until_left(_request: Received, connection: Connection) -> None:
        arrived.set()
        await connection.reader.read(1)
        left.set()
        raise Hangup

    running = chain([until_left, WELL], WELL)
    half_open(running)
    before = running.proxy.state
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as client:
        body = msgspec.json.encode(ASK)
        head = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
        client.sendall(head % len(body) + body)
        assert arrived.wait(10)
    assert left.wait(10), "the upstream call is cancelled"
    assert "stopped by you" in running.proxy.wait_for("request.error")["message"]
    assert running.proxy.wait_for("request.error")["data"]["status"] == 499
    assert running.proxy.state == before
    assert running.fallback.received == []
    # The half-open place is free again.
    assert asked(ask(running)) == (PRIMARY, "1")


def test_rule_6_an_expired_login_is_reported_once_and_then_skipped(
    chain: Callable[..., Chain],
) -> None:
    body = b'{"type":"error", "error":{"type":"authentication_error","message":"has expired"}}'
    running = chain(scripted.answer(401, body), WELL)
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    first = ask(running, headers=login)
    assert (first.status_code, first.content) == (401, body)
    assert running.proxy.state == {}
    assert asked(ask(running, headers=login)) == ("fallback1", "2")
    assert running.proxy.state[PRIMARY]["consecutiveFailures"] == 1
    assert ask(running, headers={"authorization": "Bearer sk-ant-oat-new"}).status_code == 401


def test_rule_6_the_attempts_of_one_request_are_one_failure(chain: Callable[..., Chain]) -> None:
    running = chain([E500, E529], WELL)
    config = running.proxy.paths.config
    config.write_text(config.read_text().replace("[primary]", "[primary]\nretry = 1"))
    assert asked(ask(running)) == ("fallback1", "3")
    state = running.proxy.state[PRIMARY]
    assert state["models"][MODEL]["consecutiveFailures"] == 1
    assert state["consecutiveFailures"] == 0


def test_rule_6_a_hint_never_shortens_a_longer_cooldown(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(429, "rate_limit_error", headers={"retry-after": "5"}), WELL)
    failed_before(running, 9)
    ask(running)
    assert cools(running.proxy.state[PRIMARY]) == 300


def test_rule_7_failures_in_flight_together_open_the_breaker_once(
    chain: Callable[..., Chain],
) -> None:
    running = chain(together(12, E500), WELL)
    with ThreadPoolExecutor(12) as pool:
        pending = [pool.submit(ask, running) for _ in range(12)]
        assert {asked(each.result()) for each in pending} == {("fallback1", "2")}
    state = running.proxy.state[PRIMARY]
    assert state["consecutiveFailures"] == 12
    assert state["cooldownUntil"] - state["cooldownBegan"] == 30_000


UNKNOWN_FIELDS = (
    ("context_management", "context_management: Extra inputs are not permitted"),
    ("output_config", "output_config: Extra inputs are not permitted"),
)


def test_rule_8_a_repaired_request_goes_to_the_same_provider_once_per_repair(
    chain: Callable[..., Chain],
) -> None:
    async def strict(request: Received, connection: Connection) -> None:
        refusals = (words for name, words in UNKNOWN_FIELDS if name in request.json)
        words = next(refusals, "you, again")
        await scripted.error(400, "invalid_request_error", words)(request, connection)

    running = chain(E529, strict, WELL)
    sick: dict[str, Any] = {
        "context_management": {"edits": []},
        "output_config": {"effort": "high"},
    }
    response = ask(running, **sick)
    repairs = running.proxy.events("rectifier.attempt")
    names = [record["data"]["rectifier"] for record in repairs]
    assert len(names) == len(set(names)) > 0
    assert asked(response) == ("fallback2", str(3 + len(names)))
    state = running.proxy.state.get("fallback1", {})
    assert state.get("consecutiveFailures", 0) == 0, "a refused request does not count as a failure"


CLIENT = {name.decode(): value.decode() for name, value in dialogues.CLIENT}


def test_rule_9_what_a_fallback_never_sees(chain: Callable[..., Chain]) -> None:
    running = chain(E529, WELL)
    ask(running, headers=CLIENT, metadata={"user_id": "users-name"})
    received = running.fallback.received[0]
    assert "users" not in str(received.headers) + received.body.decode()
    assert received.header("anthropic-beta") == "effort-2025-11-24"
    assert received.header("x-api-key") == "fallback-key-1"
    assert received.json["metadata"]["user_id"].startswith("user_")


def test_rule_10_the_primary_gets_the_clients_own_bytes(chain: Callable[..., Chain]) -> None:
    running = chain(WELL)
    raw = b'{"model":"m",  "messages":[], "z": "\\u00e9", "a": 1e2}\n'
    httpx.post(f"{running.url}/v1/messages?beta=true", content=raw, headers=CLIENT)
    received = running.primary.received[0]
    assert (received.body, received.target) == (raw, "/v1/messages?beta=true")
    for name in ("anthropic-beta", "anthropic-version", "authorization"):
        assert received.header(name) == CLIENT[name]
    assert received.header("x-ccf-api-key") is None


def test_rule_10_synthesized_thinking_is_removed(chain: Callable[..., Chain]) -> None:
    own = {"type": "thinking", "thinking": "hm", "signature": mark("hm")}
    said = {"type": "text", "text": "so"}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [own, said]}]
    running = chain(WELL)
    for _ in range(2):
        assert asked(ask(running, messages=messages)) == (PRIMARY, "1")
    first, second = running.primary.received
    assert first.json["messages"][1]["content"] == [said]
    assert first.body == second.body


def test_rule_11_the_proxy_does_not_send_requests_to_itself(chain: Callable[..., Chain]) -> None:
    running = chain(WELL, WELL)
    config = running.proxy.paths.config
    port = running.url.rpartition(":")[2]
    config.write_text(config.read_text().replace(running.primary.url, f"http://localhost:{port}"))
    assert asked(ask(running)) == ("fallback1", "1")
    assert running.primary.received == []


def test_rule_11_a_longer_loop_is_noticed(chain: Callable[..., Chain]) -> None:
    running = chain(E500, WELL)
    ask(running)
    for received in (running.primary.received[0], running.fallback.received[0]):
        via = received.header("via")
        assert via is not None
        response = ask(running, headers={"via": f"1.1 other, {via}"})
        assert response.status_code == 502
        assert "loop" in response.json()["error"]["message"]
