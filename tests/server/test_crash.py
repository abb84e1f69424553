"""Killed at any moment, under load: what is on the disk can be read, and nothing is in the way.

Run by hand for longer with `CCFALLBACK_TEST_KILLS=300`.
"""

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback import files
from ccfallback.config.model import Config
from ccfallback.paths import Paths
from ccfallback.policy.breaker import CLOSED
from ccfallback.server.live_config import config_file
from ccfallback.server.serve import FLUSH_SECONDS
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, ScriptedUpstream
from ccfallback.state.file import StateFile
from tests.server.test_serve import ASK, start

KILLS = int(os.environ.get("CCFALLBACK_TEST_KILLS", "3"))
SLACK = 0.3


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


def keep_setting(words: list[str], ended: threading.Event, tried: list[int]) -> None:
    """Change one key for ever, and kill every other `config set` on its way."""
    while not ended.is_set():
        tried.append(len(tried) + 1)
        change = ["config", "set", "breaker.max_reset", str(tried[-1])]
        with subprocess.Popen(
            [sys.executable, "-m", "ccfallback", *words, *change],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            if random.random() < 0.5:
                ended.wait(random.uniform(0.1, 0.5))
                process.kill()


def leftovers(paths: Paths) -> Counter[str]:
    """Temporary files, counted by the file that they were to become."""
    folder = paths.state.parent
    found = [entry.name for entry in folder.rglob("*") if entry.name.endswith(".tmp")]
    return Counter(name.removeprefix(".").rsplit(".", 2)[0] for name in found)


def words_for(paths: Paths) -> list[str]:
    """The options that name a test's own files."""
    files_of = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]
    return list(map(str, files_of))


async def signed(request: Received, connection: Connection) -> None:
    """An answer with thinking, signed anew each time: the proxy remembers the signer."""
    thought = {"type": "thinking", "thinking": "hm", "signature": token_hex(20)}
    text = {"type": "text", "text": "ok"}
    await scripted.reply([thought, text])(request, connection)


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_kill_at_any_moment_loses_no_failure_and_leaves_no_lock(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    failing, spare = upstream(scripted.error(529, "overloaded_error")), upstream(signed)
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(
        f'[primary]\nbase_url = "{failing.url}"\n[log]\nmax_bytes = 20000\nbackups = 2\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )
    tried: list[int] = []
    for _ in range(KILLS):
        process, url = start(paths, "--port", "0")
        ended, confirmed = threading.Event(), list[str]()
        threads = [
            threading.Thread(target=keep_asking, args=(url, ended, confirmed)) for _ in range(4)
        ]
        setting = (words_for(paths), ended, tried)
        threads.append(threading.Thread(target=keep_setting, args=setting))
        for thread in threads:
            thread.start()
        # Up to a moment after the first flush, at which the signers are written.
        time.sleep(random.uniform(0.05, 1.5))
        kill(process)
        ended.set()
        for thread in threads:
            thread.join()

        state = StateFile(paths.state, patience=1.0).load()
        assert state.set_aside is None
        config = config_file(paths.config).load()
        assert config.has_fallback
        assert config.breaker.max_reset in {Config().breaker.max_reset, *tried}
        # A failure is in the file before its response ends; of many models the last are kept.
        known = state.states.get("anthropic-primary", CLOSED).models
        assert set(confirmed[-16:]) <= set(known)
        for log in paths.log.parent.glob("log.jsonl*"):
            lines = log.read_bytes().split(b"\n")
            # Only the last may be half written.
            for line in filter(None, lines[:-1]):
                assert isinstance(msgspec.json.decode(line), dict), log
        if paths.signatures.exists():
            assert isinstance(msgspec.json.decode(paths.signatures.read_bytes()), dict)
        # A write takes away what the last one left, so there is never more than one.
        assert set(leftovers(paths).values()) <= {1}
    for path in (paths.config, paths.state, paths.log, paths.server, paths.signatures):
        with files.locked(path, 1.0):
            pass
    # And the next life takes away the rest.
    process, url = start(paths, "--port", "0")
    ask(url, "one more")
    config_file(paths.config).replace(paths.config.read_text() + "# changed\n")
    process.terminate()
    assert process.wait(20) == 0
    kill(process)
    assert leftovers(paths) == Counter()


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_kill_loses_at_most_the_last_second_of_successes(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(f'[primary]\nbase_url = "{upstream(scripted.reply("ok")).url}"\n')
    for _ in range(max(1, KILLS // 4)):
        process, url = start(paths, "--port", "0")
        # When each answered request began and ended.
        seen: list[tuple[float, float]] = []
        slowest = 0.0
        until = time.monotonic() + random.uniform(2.5, 4.0)
        while time.monotonic() < until:
            began = time.time()
            assert ask(url, "m") is not None
            seen.append((began, time.time()))
            slowest = max(slowest, time.time() - began)
        killed = time.time()
        kill(process)
        kept = StateFile(paths.state).load().states["anthropic-primary"].last_success
        # The server flushes every second; a busy machine delays that as it delays requests.
        saved_by = killed - FLUSH_SECONDS - SLACK - 4 * slowest
        assert kept is not None
        assert all(kept >= began - 0.001 for began, ended in seen if ended < saved_by)


@pytest.mark.skipif(sys.platform == "win32", reason="SO_REUSEADDR means something else there")
def test_a_restart_gets_the_same_port_at_once(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(f'[primary]\nbase_url = "{upstream(scripted.reply("ok")).url}"\n')
    process, url = start(paths, "--port", "0")
    port = url.rpartition(":")[2]
    with httpx.Client() as idle:
        for _ in range(3):
            # Closed by the server at its end, or not at all: TIME_WAIT on one side or the other.
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


def output_of_server(paths: Paths, use: Callable[[str], None], **how: Any) -> str:
    """What a server prints that starts, is used at its URL, and stops in good order."""
    with subprocess.Popen(
        [sys.executable, "-m", "ccfallback", *words_for(paths), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where files may not grow, Python 3.11 leaves halves of modules that tests share.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        **how,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip().partition("=")[2]
            assert url, process.communicate(timeout=20)
            use(url)
            process.terminate()
            assert process.wait(timeout=20) == 0
            # Not by `communicate`: that skips what was read together with the first line.
            assert process.stderr is not None
            out, err = process.stdout.read(), process.stderr.read()
        finally:
            # Else a failure above would wait for a server that is never stopped.
            process.kill()
    return str(out + err)


def goes_on_from_memory(paths: Paths, **how: Any) -> None:
    """It answers and counts, and says once what it can't write."""

    def use(url: str) -> None:
        for _ in range(5):
            response = httpx.post(f"{url}/v1/messages", json=ASK, timeout=10)
            assert response.status_code == 200
        # The third failure began a cooldown, in memory alone.
        assert response.headers["x-ccfallback-attempts"] == "1"

    printed = output_of_server(paths, use, **how)
    assert printed.count("can't be saved") == 1
    assert printed.count("log can't be written") == 1


def test_a_full_disk_does_not_stop_the_proxy(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    resource = pytest.importorskip("resource", reason="limits the size of files as POSIX does")
    configure(paths, upstream)

    def no_space() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    goes_on_from_memory(paths, preexec_fn=no_space)


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
def test_a_read_only_folder_does_not_stop_the_proxy(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    configure(paths, upstream)
    folder = paths.config.parent
    folder.chmod(0o500)
    try:
        goes_on_from_memory(paths, preexec_fn=obey_modes)
        assert [entry.name for entry in folder.iterdir()] == ["config.toml"]
    finally:
        folder.chmod(0o700)


def obey_modes() -> None:
    """Take from root, in a process that is about to begin, the right to pass over modes."""
    if os.geteuid() == 0:
        drop, override, read_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_...
        for right in (override, read_search):
            if ctypes.CDLL(None).prctl(drop, right, 0, 0, 0) != 0:
                raise OSError("root keeps the right to write anywhere")


def configure(paths: Paths, upstream: Callable[..., ScriptedUpstream]) -> None:
    """A primary that always fails, and a spare."""
    failing, spare = upstream(scripted.error(500, "api_error")), upstream(scripted.reply("ok"))
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(
        f'[primary]\nbase_url = "{failing.url}"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )
