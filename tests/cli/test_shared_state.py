"""Several servers on one Redis: what one of them learns holds at the others, and none waits."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.policy.breaker import BreakerState
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.spend import NANO
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream
from ccfallback.state import open_store, server_file
from ccfallback.state.redis_store import REQUEST_PATIENCE, RedisStore
from ccfallback.state.spent import HELD
from ccfallback.state.store import LocalSlots, States, StateStore
from tests.cli.conftest import Run
from tests.conftest import RunningProxy
from tests.shared_state import SECONDS, RedisServer, redis_server, until

__all__ = ["redis_server"]

ASKED = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "question"}]}
WELL = scripted.reply("answer")


class Team:
    """Servers with the same providers, and with one shared state."""

    def __init__(
        self,
        servers: list[RunningProxy],
        upstreams: list[ScriptedUpstream],
        redis: RedisServer,
        url: str,
    ) -> None:
        self.url = url
        self.servers = servers
        self.upstreams = upstreams
        self.redis = redis

    def ask(
        self, number: int, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """A request to one of the servers."""
        url, body = f"{self.servers[number].url}/v1/messages", {**ASKED, **more}
        return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)

    def provider(self, number: int, **more: Any) -> str:
        """Which provider answers a request to one of the servers."""
        response = self.ask(number, **more)
        assert response.status_code == 200, response.text
        provider: str = response.headers["x-ccfallback-provider"]
        return provider

    @property
    def stores(self) -> list[StateStore]:
        """The stores of the servers."""
        return [each._background.proxy.services.breakers._store for each in self.servers]

    def command(self) -> StateStore:
        """The store as a command has it."""
        return open_store(self.servers[0].paths, self.url)

    def counted(self) -> int:
        """The failures of the primary that are in the store."""
        state = self.command().load().states.get("anthropic-primary")
        return 0 if state is None else state.failures

    def failures(self) -> int:
        """The failures of the primary that the servers have seen."""
        return sum(len(server.events("provider.failure")) for server in self.servers)

    def agree(self) -> None:
        """Wait until all know what is in the store."""
        stores = [*self.stores, self.command()]
        until(lambda: len({str(store.load().version) for store in stores}) == 1)


@pytest.fixture
def team(
    tmp_path: Path,
    redis_server: RedisServer,
    upstream: Callable[..., ScriptedUpstream],
) -> Iterator[Callable[..., Team]]:
    """Starts so many servers in front of a primary and fallbacks.

    Their requests wait for the shared state as long as it takes, so that a busy machine makes no
    server decide alone; a test of a state that is away sets the `patience` of every day.
    """
    with ExitStack() as stack:

        def start(
            count: int,
            *upstreams: Any,
            more: str = "",
            url: str = "",
            place: str = "redis",
            login: bool = False,
            priced: str = "",
            patience: float = SECONDS,
        ) -> Team:
            made = [upstream(*each) for each in upstreams]
            first, *others = made
            url = "" if place == "file" else url or redis_server.url
            key = "" if login else 'api_key = "key"\n'
            config = f'[state]\nurl = "{url}"\n{more}\n'
            config += f'[primary]\nbase_url = "{first.url}"\n{key}{priced}'
            for number, other in enumerate(others, 1):
                config += f'[[providers]]\nname = "fallback{number}"\nbase_url = "{other.url}"\n'
                config += f'api_key = "key-{number}"\n'
            servers = []
            for number in range(count):
                folder = tmp_path / f"server{number}"
                folder.mkdir()
                state = (tmp_path if place == "file" else folder) / "state.json"
                paths = Paths(folder / "config.toml", state, folder / "log" / "log.jsonl")
                paths.config.write_text(config)
                server = RunningProxy(paths)
                stack.callback(server.stop)
                servers.append(server)
            started = Team(servers, made, redis_server, url)
            for store in started.stores:
                store.patience = patience
            return started

        yield start


def test_a_failure_at_one_server_holds_at_the_others(team: Callable[..., Team]) -> None:
    limited = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    running = team(2, [limited, WELL], [WELL])
    assert running.provider(0) == "fallback1"
    running.agree()
    assert running.provider(1) == "fallback1"
    skips = running.servers[1].events("circuit_breaker.skip")
    assert [skip["data"]["provider"] for skip in skips] == ["anthropic-primary"]
    assert skips[0]["data"]["cooldownUntil"] > 1000 * (time() + 500)


LOGIN = {"authorization": "Bearer sk-ant-oat-dummy"}


@pytest.mark.parametrize("place", ["file", "redis"])
def test_a_refused_login_is_known_to_the_server_of_the_next_try(
    place: str, team: Callable[..., Team]
) -> None:
    refused = scripted.error(401, "authentication_error")
    running = team(2, [refused], [WELL], place=place, login=True)
    assert running.ask(0, headers=LOGIN).status_code == 401
    running.agree()
    second = running.ask(1, headers=LOGIN)
    assert (second.status_code, second.headers["x-ccfallback-provider"]) == (200, "fallback1")


def slow(go_on: threading.Event) -> Script:
    """A good answer, as soon as it may be given."""

    async def script(request: Received, connection: Connection) -> None:
        while not go_on.is_set() and not connection.stopping.is_set():
            await asyncio.sleep(0.005)
        await WELL(request, connection)

    return script


def cool_down(states: States) -> States:
    """The primary's cooldown has just ended."""
    now = time()
    state = BreakerState(
        failures=3, last_failure=now - 31, cooldown_until=now - 1, cooldown_began=now - 31
    )
    return {**states, "anthropic-primary": state}


def test_of_five_servers_one_probes_a_provider(team: Callable[..., Team]) -> None:
    go_on = threading.Event()
    running = team(5, [slow(go_on)], [WELL])
    running.command().update(cool_down)
    running.agree()
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(running.provider, number) for number in range(5)]
        # All but the probe are answered while that goes on.
        until(lambda: sum(each.done() for each in asked) == 4)
        until(lambda: running.upstreams[0].received)
        assert len(running.upstreams[0].received) == 1
        go_on.set()
        answers = sorted(each.result() for each in asked)
    assert answers == ["anthropic-primary", *["fallback1"] * 4]
    running.agree()
    assert [running.provider(number) for number in range(5)] == ["anthropic-primary"] * 5


def test_a_probe_whose_client_leaves_frees_the_provider_for_the_others(
    team: Callable[..., Team],
) -> None:
    go_on = threading.Event()
    running = team(2, [slow(go_on)], [WELL])
    running.command().update(cool_down)
    running.agree()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{running.servers[0].url}/v1/messages", json=ASKED, timeout=0.5, trust_env=False
        )
    running.servers[0].wait_for("request.error")
    go_on.set()
    until(lambda: running.provider(1) == "anthropic-primary")


def test_breakers_are_reset_and_tripped_for_all_servers_by_one_command(
    team: Callable[..., Team], ccf: Run
) -> None:
    running = team(2, [WELL], [WELL])
    files = [
        *("--config", str(running.servers[0].paths.config)),
        *("--state", str(running.servers[0].paths.state)),
    ]
    ccf(*files, "breaker", "trip", "anthropic-primary", "--for", "10m")
    running.agree()
    assert [running.provider(number) for number in range(2)] == ["fallback1"] * 2
    shown = msgspec.json.decode(ccf(*files, "breaker", "status", "--json").out)
    assert shown["providers"][0]["cooldownUntil"] > 1000 * time()
    rejection = LearnedRejection("thinking_budget", "m", "no budget", time() + 600)
    running.command().update(
        lambda states: {**states, "fallback1": BreakerState(learned=(rejection,))}
    )
    ccf(*files, "breaker", "reset", "--all")
    running.agree()
    for store in running.stores:
        assert store.load().states["fallback1"].learned
    ccf(*files, "providers", "forget", "fallback1")
    running.agree()
    for store in running.stores:
        found = store.load().states.get("fallback1")
        assert found is None or not found.learned
    assert [running.provider(number) for number in range(2)] == ["anthropic-primary"] * 2


def test_failures_that_several_servers_see_at_once_are_all_counted(
    team: Callable[..., Team],
) -> None:
    running = team(5, [scripted.error(500, "api_error")], [WELL], [WELL])
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(running.provider, [number % 5 for number in range(100)]))
    assert set(answers) == {"fallback1"}
    until(lambda: running.counted() == running.failures() > 0)


@pytest.mark.parametrize("fault", ["kill", "hang", "full"])
def test_without_the_shared_state_no_request_is_lost_and_all_failures_count_in_the_end(
    team: Callable[..., Team], fault: str
) -> None:
    running = team(2, [scripted.error(500, "api_error")], [WELL], patience=REQUEST_PATIENCE)
    for number in range(2):
        assert running.provider(number) == "fallback1"
    running.agree()
    match fault:
        case "kill":
            running.redis.kill()
        case "hang":
            running.redis.hang()
        case "full":
            running.redis.set("maxmemory", "1")
    for _ in range(4):
        for number in range(2):
            assert running.provider(number) == "fallback1"
    for server in running.servers:
        server.wait_for("state.error")
    match fault:
        case "kill":
            running.redis.start()
        case "hang":
            running.redis.go_on()
        case "full":
            running.redis.set("maxmemory", "0")
    for server in running.servers:
        server.wait_for("state.saved")
        # However many requests and seconds it was away.
        assert len(server.events("state.error")) == 1
    until(lambda: running.counted() == running.failures())
    until(lambda: not any(store.problem for store in running.stores))
    running.agree()


def test_a_server_publishes_its_address_when_it_has_heard_of_the_shared_state(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("ANSWER_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(f"ccfallback.state.redis_store.{limit}", SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        silent.settimeout(SECONDS)
        port = silent.getsockname()[1]
        paths.config.parent.mkdir()
        paths.config.write_text(f'[state]\nurl = "redis://127.0.0.1:{port}/0"\n')
        starting = pool.submit(RunningProxy, paths)
        connection, _ = silent.accept()
        # It is waiting for an answer.
        assert not paths.server.exists()
        silent.close()
        connection.close()
        proxy = starting.result()
        try:
            assert server_file.read(paths.server) is not None
            assert httpx.get(f"{proxy.url}/health", trust_env=False).status_code == 200
        finally:
            proxy.stop()


def test_servers_that_can_not_log_in_serve_and_say_no_password(
    team: Callable[..., Team], redis_server: RedisServer, ccf: Run
) -> None:
    redis_server.set("requirepass", "a-right-password")
    url = redis_server.url.replace("//", "//:a-wrong-password@")
    running = team(1, [WELL], [WELL], url=url, patience=REQUEST_PATIENCE)
    assert running.provider(0) == "anthropic-primary"
    server = running.servers[0]
    server.wait_for("state.error")
    files = ["--config", str(server.paths.config), "--state", str(server.paths.state)]
    health = httpx.get(f"{server.url}/health", trust_env=False).text
    assert str(redis_server.port) not in health
    said = [
        health,
        *map(str, server.records),
        *[
            result.out + result.err
            for command in ("config show", "status", "doctor", "breaker reset --all")
            for result in [ccf(*files, *command.split())]
        ],
    ]
    assert any("it refuses the user or the password" in each for each in said)
    assert not any("wrong-password" in each for each in said)


PRICED = "prices = { input = 1000000.0, output = 0.0 }\ncap = { day = 100.0 }\n"
"""A dollar for each token of the prompt."""


def test_servers_keep_a_cap_together(team: Callable[..., Team], ccf: Run) -> None:
    # Each answer costs 12 dollars.
    running = team(2, [WELL], [WELL], priced=PRICED)
    answers = [running.provider(number % 2) for number in range(14)]
    spent = answers.count("anthropic-primary")
    # On a busy machine a cost may reach the other server after its next request has.
    assert set(answers[:8]) == {"anthropic-primary"}
    assert set(answers[10:]) == {"fallback1"}
    for server in running.servers:
        files = ["--config", str(server.paths.config), "--state", str(server.paths.state)]
        (cap,) = msgspec.json.decode(ccf(*files, "spend", "--json").out)["caps"]
        assert cap["spent"] == 12.0 * spent


def test_without_the_package_commands_and_the_server_say_what_to_install(
    paths: Paths, ccf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "ccfallback.state.redis_store", raising=False)
    paths.config.parent.mkdir()
    paths.config.write_text('[state]\nurl = "redis://:a-password@host.test/0"\n')
    for command in ("breaker status", "serve --port 0"):
        ran = ccf(*command.split())
        assert ran.code == 1
        assert "pip install 'ccfallback[redis]'" in ran.err
    checks = msgspec.json.decode(ccf("doctor", "--json").out)["checks"]
    (state,) = [each for each in checks if each["id"] == "state" and not each["ok"]]
    assert "pip install 'ccfallback[redis]'" in state["remedy"]


def test_the_password_of_the_shared_state_is_masked(paths: Paths, ccf: Run) -> None:
    ccf("config", "set", "state.url", "rediss://user:a-password@host.test:6380/1")
    for command in ("config show", "config show --json", "config get state.url", "config history"):
        ran = ccf(*command.split())
        assert ran.code == 0
        assert "a-password" not in ran.out + ran.err
    assert "host.test:6380/1" in ccf("config", "show").out
    assert "a-password" in paths.config.read_text()
    wrong = ccf("config", "set", "state.url", "http://:a-password@host.test")
    assert wrong.code == 1
    assert "redis://HOST:PORT/NUMBER" in wrong.err
    assert "a-password" not in wrong.out + wrong.err


def test_commands_show_the_copy_while_the_shared_state_is_away(
    team: Callable[..., Team], ccf: Run
) -> None:
    running = team(1, [scripted.error(500, "api_error")], [WELL])
    assert running.provider(0) == "fallback1"
    server = running.servers[0]
    until(lambda: server.paths.state.exists() and server.state.get("anthropic-primary"))
    running.redis.kill()
    files = ["--config", str(server.paths.config), "--state", str(server.paths.state)]
    for command in ("status", "quota"):
        ran = ccf(*files, command, "--json")
        troubles = msgspec.json.decode(ran.out)["troubles"]
        assert any("can't be reached" in each and "copy" in each for each in troubles), command
    breakers = ccf(*files, "breaker", "status", "--json")
    shown = msgspec.json.decode(breakers.out)
    assert shown["providers"][0]["consecutiveFailures"] == 1
    assert "this is what this machine's copy says" in breakers.err
    reset = ccf(*files, "breaker", "reset", "--all")
    assert reset.code == 1
    assert "can't be reached" in reset.err
    checks = msgspec.json.decode(ccf(*files, "doctor", "--json").out)["checks"]
    assert [each["ok"] for each in checks if each["id"] == "state"] == [False]
    running.redis.start()
    until(lambda: not running.stores[0].problem)
    checks = msgspec.json.decode(ccf(*files, "doctor", "--json").out)["checks"]
    assert [each["ok"] for each in checks if each["id"] == "state"] == [True]


def test_commands_show_what_a_server_has_seen_without_the_shared_state(
    team: Callable[..., Team], redis_server: RedisServer, ccf: Run
) -> None:
    redis_server.kill()
    running = team(1, [scripted.error(500, "api_error")], [WELL], patience=REQUEST_PATIENCE)
    server = running.servers[0]
    files = ["--config", str(server.paths.config), "--state", str(server.paths.state)]

    def has_copied(failures: int) -> bool:
        copied = server.state.get("anthropic-primary", {})
        return bool(copied.get("consecutiveFailures") == failures)

    for failures in (1, 2, 3):
        assert running.provider(0) == "fallback1"
        until(partial(has_copied, failures))
    for command in ("breaker status", "status"):
        ran = ccf(*files, *command.split(), "--json")
        primary = msgspec.json.decode(ran.out)["providers"][0]
        assert (primary["consecutiveFailures"], primary["available"]) == (3, False), command
    assert "this is what this machine's copy says" in ccf(*files, "breaker", "status").err
    assert ccf(*files, "breaker", "reset", "--all").code == 1
    redis_server.start()
    until(lambda: running.counted() == 3)
    assert ccf(*files, "breaker", "reset", "--all").code == 0
    running.agree()
    until(lambda: not has_copied(3))


def test_a_session_stays_where_another_server_has_sent_it(
    team: Callable[..., Team], ccf: Run
) -> None:
    running = team(2, [WELL], [WELL], more='[failback]\nmode = "cache"\n')
    session = {"x-claude-code-session-id": "one"}

    def provider(number: int) -> str:
        answer: str = running.ask(number, session).headers["x-ccfallback-provider"]
        return answer

    assert provider(1) == "anthropic-primary"
    running.command().update(lambda states: {**states, "anthropic-primary": opened()})
    running.agree()
    assert provider(0) == "fallback1"
    running.command().update(lambda _states: {})
    until(lambda: all(store.load().sections.get("sessions") for store in running.stores))
    running.agree()
    assert provider(1) == "fallback1"


def opened() -> BreakerState:
    now = time()
    return BreakerState(failures=3, cooldown_until=now + 60, cooldown_began=now)


FAULTS = (
    scripted.error(500, "api_error"),
    scripted.error(529, "overloaded_error"),
    scripted.error(429, "rate_limit_error", headers={"retry-after-ms": "50"}),
    scripted.error(403, "permission_error"),
    scripted.html(),
    scripted.reset,
    scripted.close,
    WELL,
)


def holds_nothing(store: RedisStore) -> bool:
    return not store.places.held


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("count", [2, 5])
def test_several_servers_lose_no_request_while_providers_fail_and_the_state_goes(
    count: int, team: Callable[..., Team]
) -> None:
    faults = list(FAULTS) * 20, list(reversed(FAULTS)) * 20
    running = team(count, *faults, [WELL], patience=REQUEST_PATIENCE)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(running.ask, number % count) for number in range(150)]
        until(lambda: sum(each.done() for each in asked) > 50)
        running.redis.kill()
        until(lambda: sum(each.done() for each in asked) > 100)
        running.redis.start()
        answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {200}
    until(lambda: not any(store.problem for store in running.stores))
    running.agree()
    for server, store in zip(running.servers, running.stores, strict=True):
        assert not server.events("server.error")
        assert isinstance(store, RedisStore)
        # Nobody holds a place any more.
        until(partial(holds_nothing, store))
        assert isinstance(store.slots, LocalSlots)
        assert not store.slots._taken


def test_a_broken_configuration_still_says_where_the_state_is(
    paths: Paths, redis_server: RedisServer, ccf: Run
) -> None:
    broken = "[state]\nurl = 3\n"
    paths.config.parent.mkdir()
    paths.config.write_text(broken)
    # No version of it ever loaded, so it is the state file.
    assert ccf("breaker", "reset", "--all").code == 0
    paths.config.write_text(f'[state]\nurl = "{redis_server.url}"\n')
    assert ccf("breaker", "status").code == 0
    paths.config.write_text(broken)
    store = open_store(paths, redis_server.url)
    store.update(lambda _states: {"anthropic-primary": opened()})
    assert ccf("breaker", "reset", "--all").code == 0
    assert store.load().states == {}
    store.close()


def test_what_a_request_may_cost_counts_at_the_other_servers_while_it_is_in_flight(
    team: Callable[..., Team],
) -> None:
    go_on = threading.Event()
    running = team(2, [slow(go_on)], [WELL], priced=PRICED.replace("100.0", "20.0"))

    def held() -> int:
        entries = HELD.read(running.stores[1].load().sections)
        return sum(each.nano for each in entries.values())

    with ThreadPoolExecutor() as pool:
        first = pool.submit(running.provider, 0)
        until(lambda: held() > 20 * NANO)
        assert running.provider(1) == "fallback1"
        go_on.set()
        assert first.result() == "anthropic-primary"
    until(lambda: held() == 0)
    assert running.provider(1) == "anthropic-primary"
