"""Killed at any moment, under load: what is on the disk can be read, and nothing is in the way.

Run by hand for longer with `CCFALLBACK_TEST_KILLS=300`.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx
import msgspec
import pytest

from ccfallback.core.breaker import CLOSED
from ccfallback.proxy import scripted
from ccfallback.proxy.scripted import ScriptedUpstream
from ccfallback.store import files
from ccfallback.store.config_file import ConfigFile
from ccfallback.store.paths import Paths
from ccfallback.store.state_file import StateFile
from tests.proxy.test_serve import ASK, start

KILLS = int(os.environ.get("CCFALLBACK_TEST_KILLS", "4"))


def ask(url: str, model: str) -> httpx.Response | None:
    try:
        return httpx.post(f"{url}/v1/messages", json={**ASK, "model": model}, timeout=10)
    except httpx.HTTPError:
        return None


def keep_asking(url: str, ended: threading.Event, confirmed: list[str]) -> None:
    """Ask for ever new models, each of which fails once; note those that were answered."""
    while not ended.is_set():
        model = f"m{random.randrange(1 << 30)}"
        response = ask(url, model)
        if response is None:
            return
        if response.status_code == 200:
            confirmed.append(model)


def leftovers(paths: Paths) -> list[str]:
    return [entry.name for entry in paths.state.parent.iterdir() if entry.name.endswith(".tmp")]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_kill_at_any_moment_loses_no_failure_and_leaves_no_lock(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    failing, spare = (
        upstream(scripted.error(529, "overloaded_error")),
        upstream(scripted.reply("ok")),
    )
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(
        f'[primary]\nbase_url = "{failing.url}"\n[log]\nmax_bytes = 20000\nbackups = 2\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )
    for _ in range(KILLS):
        process, url = start(paths, "--port", "0")
        ended, confirmed = threading.Event(), list[str]()
        threads = [
            threading.Thread(target=keep_asking, args=(url, ended, confirmed)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.05, 0.8))
        process.kill()
        process.wait()
        ended.set()
        for thread in threads:
            thread.join()
        assert process.stdout is not None
        process.stdout.close()

        state = StateFile(paths.state, patience=1.0)
        states = state.read()
        assert state.set_aside is None
        assert ConfigFile(paths.config).load().has_fallback
        # A failure is in the file before its response ends; of many models the last are kept.
        known = states.get("anthropic-primary", CLOSED).models
        assert set(confirmed[-16:]) <= set(known)
        for log in paths.log.parent.glob("log.jsonl*"):
            lines = log.read_bytes().split(b"\n")
            # Only the last may be half written.
            for line in filter(None, lines[:-1]):
                assert isinstance(msgspec.json.decode(line), dict), log
        with files.locked(paths.state, 1.0), files.locked(paths.log, 1.0):
            pass
        state.update(lambda states: {**states, "other": CLOSED})
        state.update(lambda states: {})
        assert [name for name in leftovers(paths) if name.startswith(".state.json.")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="SO_REUSEADDR means something else there")
def test_a_restart_takes_the_same_port_at_once(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(f'[primary]\nbase_url = "{upstream(scripted.reply("ok")).url}"\n')
    process, url = start(paths, "--port", "0")
    port = url.rpartition(":")[2]
    with httpx.Client() as idle:
        for _ in range(3):
            # Closed by the server at its end, or by nobody: TIME_WAIT on one side or the other.
            httpx.get(url, headers={"connection": "close"})
        idle.get(url)
        for _ in range(3):
            began = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            # An idle connection is not waited for, the drain would take 30 s.
            assert time.monotonic() - began < 15
            assert process.stdout is not None
            process.stdout.close()
            process, again = start(paths, "--port", port)
            assert again == url
            assert idle.get(url).status_code == 200
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_disk_that_is_full_is_no_reason_to_stop(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    resource = pytest.importorskip("resource", reason="limits the size of files as POSIX does")
    failing, spare = upstream(scripted.error(500, "api_error")), upstream(scripted.reply("ok"))
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(
        f'[primary]\nbase_url = "{failing.url}"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )
    words = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]

    def no_space() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    with subprocess.Popen(
        [sys.executable, "-m", "ccfallback", *map(str, words), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=no_space,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().partition("=")[2]
        assert url
        for _ in range(5):
            response = httpx.post(f"{url}/v1/messages", json=ASK, timeout=10)
            assert response.status_code == 200
        # The third failure began a cooldown, in memory alone.
        assert response.headers["x-ccfallback-attempts"] == "1"
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (out + err).count("can't be saved") == 1
    assert (out + err).count("log can't be written") == 1
