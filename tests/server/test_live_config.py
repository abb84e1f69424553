"""What another process writes is there for the server's next request."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ccfallback.config.file import ConfigFile
from ccfallback.config.model import Config, Server
from ccfallback.errors import ConfigError
from ccfallback.paths import Paths
from ccfallback.server import live_config, refresher
from ccfallback.server.record import Recorder
from ccfallback.server.serve import Proxy, run
from ccfallback.simulator import scripted
from tests.conftest import Chain, RunningProxy

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}


def ccfallback(proxy: RunningProxy, *arguments: str) -> None:
    """Run a command in a process of its own on the same files."""
    paths = proxy.paths
    files = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]
    command = [sys.executable, "-m", "ccfallback", *map(str, files), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_a_reset_breaker_is_live_for_the_next_request(chain: Callable[..., Chain]) -> None:
    busy = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    running = chain(busy, scripted.reply("spare"))
    url = f"{running.url}/v1/messages"
    httpx.post(url, json=ASK)
    assert httpx.post(url, json=ASK).headers["x-ccfallback-attempts"] == "1"
    running.primary.script(scripted.reply("well again"))
    ccfallback(running.proxy, "breaker", "reset", "anthropic-primary")
    assert "well again" in httpx.post(url, json=ASK).text


def test_an_added_provider_is_live_for_the_next_request(
    chain: Callable[..., Chain], upstream: Callable[..., scripted.ScriptedUpstream]
) -> None:
    running = chain(scripted.error(500, "api_error"))
    spare = upstream(scripted.reply("added"))
    assert httpx.post(f"{running.url}/v1/messages", json=ASK).status_code == 500
    ccfallback(running.proxy, "providers", "add", "spare", "--base-url", spare.url)
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "spare"
    assert running.proxy.events("config.load")


def test_a_broken_config_keeps_the_last_good_one(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    config = running.proxy.paths.config
    good = config.read_text()
    config.write_text("[[[nonsense")
    for _ in range(2):
        response = httpx.post(f"{running.url}/v1/messages", json=ASK)
        assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert len(running.proxy.events("config.error")) == 1
    config.write_text(good.replace("fallback1", "renamed"))
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "renamed"


def test_a_corrupt_state_file_is_set_aside_and_counts_as_empty(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    paths = running.proxy.paths
    paths.state.write_bytes(b'{"providers": {"anthro')
    assert httpx.post(f"{running.url}/v1/messages", json=ASK).status_code == 200
    assert list(paths.state.parent.glob("state.json.corrupt-*"))
    assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == 1
    assert running.proxy.events("state.corrupt")


def empty(config: Path) -> None:
    config.write_text("")


def blank(config: Path) -> None:
    config.write_text("\n \n")


def remove(config: Path) -> None:
    config.unlink()


def dangle(config: Path) -> None:
    config.unlink()
    config.symlink_to(config.with_name("nowhere"))


def become_a_pipe(config: Path) -> None:
    config.unlink()
    os.mkfifo(config)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are POSIX")
@pytest.mark.parametrize("damage", [empty, blank, remove, dangle, become_a_pipe])
def test_a_config_that_is_gone_or_empty_keeps_the_last_good_one(
    chain: Callable[..., Chain], damage: Callable[[Path], None]
) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    config = running.proxy.paths.config
    good = config.read_text()
    damage(config)
    for _ in range(2):
        response = httpx.post(f"{running.url}/v1/messages", json=ASK)
        assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert len(running.proxy.events("config.error")) == 1
    config.unlink(missing_ok=True)
    config.write_text(good.replace("fallback1", "renamed"))
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "renamed"


def test_a_reset_by_command_is_live(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    ccfallback(running.proxy, "config", "reset")
    providers = httpx.get(f"{running.url}/health").json()["providers"]
    assert [provider["name"] for provider in providers] == ["anthropic-primary"]
    assert running.proxy.events("config.error") == []


def test_a_loaded_configuration_is_kept_in_the_history(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("well"))
    config = running.proxy.paths.config
    by_hand = config.read_text() + "\n[server]\nport = 9000\n"
    config.write_text(by_hand)
    assert httpx.post(f"{running.url}/v1/messages", json=ASK).status_code == 200
    config.write_text("broken")
    ccfallback(running.proxy, "config", "rollback")
    assert config.read_text() == by_hand


def test_a_server_in_reach_of_others_keeps_requiring_the_last_tokens(
    chain: Callable[..., Chain],
) -> None:
    tokens = '\n[[tokens]]\ntoken = "let-me-in"\n'
    running = chain(scripted.reply("well"))
    live = running.proxy._background.proxy.services.live
    config, url = running.proxy.paths.config, f"{running.url}/v1/messages"
    good = config.read_text()
    config.write_text(good + tokens)
    assert httpx.post(url, json=ASK).status_code == 401
    live.needs_tokens = True
    for text in (good, good + "\n[log]\nlevel = 'warn'\n"):
        config.write_text(text)
        assert httpx.post(url, json=ASK).status_code == 401
        shown = {"x-ccf-api-key": "let-me-in"}
        assert httpx.post(url, json=ASK, headers=shown).status_code == 200
    assert len(running.proxy.events("config.error")) == 2
    config.write_text(good + tokens.replace("let-me-in", "another"))
    assert httpx.post(url, json=ASK, headers=shown).status_code == 401
    live.needs_tokens = False
    config.write_text(good)
    assert httpx.post(url, json=ASK).status_code == 200


def test_an_unforeseen_error_while_reading_fails_no_request(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("with a secret in it")

    monkeypatch.setattr(ConfigFile, "check", fail)
    with running.proxy.paths.config.open("a") as file:
        file.write("# new\n")
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    (record,) = running.proxy.events("config.error")
    assert "MemoryError" in record["message"]
    assert "secret" not in record["message"]


class UnreadableStore:
    """A configuration that can't be read for a while."""

    path = Path()

    def __init__(self, *, is_local: bool) -> None:
        self.version = 1
        self.fault: Exception | None = None
        self.reads = 0
        self._is_local = is_local

    def is_still(self, version: object) -> bool:
        """Where the file system is not known to be local, nobody can say at once."""
        return self._is_local and version == self.version

    def stamp(self) -> object:
        """The version."""
        return self.version

    def load(self, *, must_exist: bool = False) -> Config:
        """The defaults."""
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return Config()


def refreshed(live: live_config.LiveConfig, requests: int) -> list[bool]:
    """Whether the configuration is broken, after each of the requests."""

    async def refresh() -> list[bool]:
        found = []
        for _ in range(requests):
            if live.is_stale(time.monotonic()):
                await live.refresh(time.monotonic())
            found.append(live.is_broken)
        return found

    return asyncio.run(refresh())


@pytest.mark.parametrize("is_local", [True, False])
def test_a_broken_file_stays_broken_however_often_it_is_looked_at(
    is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_config, "RETRY_PAUSE", 1e9)
    store = UnreadableStore(is_local=is_local)
    live = live_config.LiveConfig(store, Recorder(None))
    store.version, store.fault = 2, ConfigError("a typo", "")
    assert refreshed(live, 3) == [True, True, True]
    assert store.reads == 2
    store.version, store.fault = 3, None
    assert refreshed(live, 2) == [False, False]
    assert store.reads == 3
    live.close()


@pytest.mark.parametrize("is_local", [True, False])
def test_a_file_that_can_be_read_again_is_used_though_it_seems_to_be_the_same(
    is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `chown` and `chmod` change, and a fault of the disk, leave time and size as they are."""
    monkeypatch.setattr(live_config, "RETRY_PAUSE", 0.0)
    store, recorder, messages = UnreadableStore(is_local=is_local), Recorder(None), []
    recorder.listeners.append(lambda record: messages.append(record.message))
    live = live_config.LiveConfig(store, recorder)
    store.version, store.fault = 2, PermissionError(13, "Permission denied")
    assert refreshed(live, 3) == [True, True, True]
    assert store.reads == 4
    # The same fault is logged once, and another one again.
    assert len(messages) == 1
    store.fault = OSError(5, "Input/output error")
    assert refreshed(live, 2) == [True, True]
    assert len(messages) == 2
    store.fault = None
    assert refreshed(live, 2) == [False, False]
    assert store.reads == 7
    live.close()


class HangingStore:
    """A configuration on a disk that hangs from some read on, until `release` is set."""

    def __init__(self, path: Path, good_reads: int) -> None:
        self.path = path
        self.release = threading.Event()
        self.hangs = threading.Event()
        self._good_reads = good_reads

    def is_still(self, _version: object) -> bool:
        """It may have changed."""
        return False

    def stamp(self) -> object:
        """Another version each time."""
        return object()

    def load(self, *, must_exist: bool = False) -> Config:
        """The defaults, or nothing."""
        self._good_reads -= 1
        if self._good_reads < 0:
            self.hangs.set()
            self.release.wait()
        return Config(server=Server(port=0))


def test_a_disk_that_hangs_at_the_start_is_an_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_config, "START_PATIENCE", 0.05)
    store = HangingStore(paths.config, 0)
    with pytest.raises(ConfigError, match="no answer from the disk") as caught:
        Proxy(paths, store=store)
    assert str(paths.config) in caught.value.message
    assert "--config" in caught.value.hint
    assert store.hangs.is_set()
    store.release.set()


def test_a_fault_at_the_start_is_raised_from_the_thread(paths: Paths) -> None:
    paths.config.parent.mkdir()
    paths.config.write_text("[server]\nprot = 1\n")
    with pytest.raises(ConfigError, match=r":2: server\.prot: unknown key"):
        Proxy(paths)


def test_a_read_that_hangs_costs_requests_little_and_the_end_nothing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresher, "PATIENCE", 0.05)
    store = HangingStore(paths.config, 1)
    proxy = Proxy(paths, store=store)
    url = proxy.bind()
    ready = threading.Event()
    serving = threading.Thread(target=run, args=(proxy, ready.set), daemon=True)
    serving.start()
    assert ready.wait(20)
    for _ in range(2):
        # No provider can be reached or is needed: the answer is the server's own.
        answer = httpx.post(f"{url}/v1/messages", content=b"no JSON", trust_env=False)
        assert answer.status_code == 400
    assert store.hangs.is_set()
    proxy.stop()
    serving.join(20)
    assert not serving.is_alive()
    assert not store.release.is_set()
    store.release.set()
