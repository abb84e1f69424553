"""`serve --background`, `stop` and `restart`: one server, and only ours."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace

import httpx
import pytest

from ccfallback.cli import background
from ccfallback.paths import Paths
from ccfallback.state import server_file
from ccfallback.state.server_file import ServerInfo
from tests.cli.conftest import Run
from tests.conftest import RunningProxy
from tests.server.test_shutdown import BEGUN, EVENTS, Held, asked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

Configure = Callable[[str], None]


def registered(paths: Paths) -> ServerInfo:
    found = server_file.read(paths.server)
    assert found is not None
    return found


def health(info: ServerInfo) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{info.url}/health").json()
    return found


@pytest.fixture(autouse=True)
def no_server_is_left(ccf: Run, configure: Configure) -> Iterator[None]:
    configure("[server]\nport = 0\n")
    yield
    # It stops nothing but a server that answers with the registered process id.
    ccf("stop", "--now")


def test_it_starts_once_answers_and_stops(ccf: Run, paths: Paths) -> None:
    ran = ccf("serve", "--background", "--log-level", "debug")
    assert ran.code == 0, ran.err
    first = registered(paths)
    assert ran.out == f"export ANTHROPIC_BASE_URL={first.url}\n"
    assert health(first)["pid"] == first.pid
    assert first.options == ("--log-level", "debug")
    again = ccf("serve", "-d")
    assert (again.code, registered(paths)) == (0, first)
    assert "runs already" in again.err
    assert ccf("stop", "--json").json == {"stopped": True, "pid": first.pid, "url": first.url}
    assert server_file.read(paths.server) is None
    with pytest.raises(httpx.ConnectError):
        health(first)
    again = ccf("stop")
    assert (again.code, again.err) == (0, "nothing to stop: no server runs\n")


def test_why_it_did_not_start_is_said(ccf: Run, configure: Configure, paths: Paths) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ran = ccf("serve", "-d", "--port", str(other.getsockname()[1]))
    assert (ran.code, ran.out) == (1, "")
    assert "did not start" in ran.err
    assert "not a ccfallback" in ran.err
    configure("[server]\nport = 'x'\n")
    ran = ccf("serve", "-d")
    assert (ran.code, "server.port" in ran.err) == (1, True)
    assert server_file.read(paths.server) is None


def test_a_restart_keeps_address_and_options_while_answers_finish(
    ccf: Run, paths: Paths, configure: Configure, upstream: Callable[..., object]
) -> None:
    held = Held()
    url = upstream(held.script).url  # type: ignore[attr-defined]  # a scripted upstream
    configure(f'[server]\nport = 0\n[primary]\nbase_url = "{url}"\n')
    ccf("serve", "-d", "--log-level", "warn")
    old = registered(paths)
    with asked(old.url) as (parts, text):
        ran = ccf("restart", "--json")
        new = registered(paths)
        assert ran.json == {"restarted": True, "url": new.url, "pid": new.pid}
        assert new.url == old.url
        assert new.pid != old.pid
        assert new.options == ("--port", new.url.rpartition(":")[2], "--log-level", "warn")
        assert health(new)["pid"] == new.pid
        held.go_on.set()
        text += b"".join(parts)
    assert text == b"".join(EVENTS)
    assert registered(paths) == new
    assert ccf("stop").code == 0


def test_now_does_not_wait_for_the_drain_delay(
    ccf: Run, paths: Paths, configure: Configure
) -> None:
    delay = 60
    configure(f"[server]\nport = 0\ndrain_delay = {delay}\n")
    ccf("serve", "-d")
    began = monotonic()
    assert ccf("stop", "--now").code == 0
    assert monotonic() - began < delay
    assert server_file.read(paths.server) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells it")
def test_stop_does_not_wait_for_a_killed_server_that_its_parent_forgot(
    ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ccf("serve", "-d").code == 0
    # Its parent, this process, does not ask how it ended.
    monkeypatch.setattr(background, "ask_to_stop", lambda it: os.kill(it.pid, signal.SIGKILL))
    monkeypatch.setattr(background, "STOP_SECONDS", 10.0)
    ran = ccf("stop")
    assert ran.code == 0, ran.err


def test_stop_waits_for_answers_and_now_drops_them(
    ccf: Run, paths: Paths, configure: Configure, upstream: Callable[..., object]
) -> None:
    url = upstream(Held().script).url  # type: ignore[attr-defined]  # a scripted upstream
    configure(f'[server]\nport = 0\n[primary]\nbase_url = "{url}"\n')
    ccf("serve", "-d")
    with asked(registered(paths).url) as (parts, text):
        assert text.startswith(BEGUN[0])
        assert ccf("stop", "--now").code == 0
        with pytest.raises(httpx.RemoteProtocolError):
            b"".join(parts)
    assert server_file.read(paths.server) is None
    assert b'"server.drain"' in paths.log.read_bytes()
    assert b"finishing 1 answer (30 s at most)" in paths.log.read_bytes()


def test_a_restart_without_a_server_starts_one(ccf: Run, paths: Paths) -> None:
    ran = ccf("restart")
    assert (ran.code, "no server ran" in ran.err) == (0, True)
    assert health(registered(paths))["pid"] == registered(paths).pid
    ccf("stop")


def test_a_broken_config_stops_nothing(ccf: Run, paths: Paths, configure: Configure) -> None:
    ccf("serve", "-d")
    before = registered(paths)
    configure("[server\n")
    assert ccf("restart").code == 1
    assert health(before)["pid"] == before.pid
    # To stop it, no configuration is needed.
    assert ccf("stop").code == 0


def test_a_process_that_is_not_our_server_is_not_stopped(
    ccf: Run, paths: Paths, running: Callable[[str], RunningProxy]
) -> None:
    """After a crash, the registered process id may belong to any program."""
    proxy = running("")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        server_file.write(paths.server, proxy.url, other.pid, "1", 0.0)
        ran = ccf("stop")
        assert (ran.code, "nothing to stop" in ran.err) == (0, True)
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            url = f"http://127.0.0.1:{mute.getsockname()[1]}"
            server_file.write(paths.server, url, other.pid, "1", 0.0)
            ran = ccf("stop")
            assert (ran.code, "does not answer" in ran.err) == (1, True)
        assert other.poll() is None
        other.communicate(b"\n")
    paths.server.unlink()


@pytest.mark.parametrize(("others", "is_found"), [(0, True), (3, True), (4, False)])
def test_a_server_is_asked_again_where_another_answers_at_its_address(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, others: int, is_found: bool
) -> None:
    """While one server replaces another, both accept at the same socket."""
    answers = iter([{"pid": 1}] * others + [{"pid": 2}] * 9)
    monkeypatch.setattr(background, "fetch_health", lambda _url: next(answers))
    monkeypatch.setattr(background, "LOOK", 0.0)
    paths.server.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server_file.write(
            paths.server, f"http://127.0.0.1:{listener.getsockname()[1]}", 2, "1", 0.0
        )
        found = background.find_registered(SimpleNamespace(paths=paths))  # type: ignore[arg-type]  # all it needs
    assert (found is not None) is is_found
    paths.server.unlink()


def test_a_server_with_other_files_is_named(
    ccf: Run, paths: Paths, configure: Configure, running: Callable[[str], RunningProxy]
) -> None:
    proxy = running("")
    configure(f"[server]\nport = {proxy.url.rpartition(':')[2]}\n")
    paths.server.unlink(missing_ok=True)
    ran = ccf("stop")
    assert (ran.code, "another state file" in ran.err) == (1, True)
