"""Notices of a failover and of its end: when, what, how often, and that they harm nothing."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.config.model import Config, KeySource, Notify, Provider
from ccfallback.events import records as events
from ccfallback.server import notices
from ccfallback.server.notices import Away, Notices, deliver
from ccfallback.server.record import Recorder
from ccfallback.simulator import scripted
from tests.conftest import RunningProxy
from tests.server.test_serve import ASK

Steps = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([("s", "one")], [None]),
        ([("s", "two"), ("s", "two"), ("s", "three")], ["failover", None, None]),
        ([("s", "two"), ("s", "one"), ("s", "one")], ["failover", "recovery", None]),
        ([("s", "two"), ("s", "one"), ("s", "two")], ["failover", "recovery", "failover"]),
        ([("s", "two"), ("t", "two"), ("t", "one")], ["failover", "failover", "recovery"]),
    ],
)
def test_a_session_is_told_of_once_in_each_direction(steps: Steps, told: list[str | None]) -> None:
    away = Away()
    found = [away.see(session, "r", provider, "one", "529") for session, provider in steps]
    assert [notice and notice.event for notice in found] == told


def test_a_notice_says_who_answers_and_why() -> None:
    away = Away()
    gone = away.see("s", "r1", "two", "one", "529 overloaded_error")
    back = away.see("s", "r2", "one", "one", "")
    assert gone is not None
    assert back is not None
    assert gone.message == "two answers instead of one: 529 overloaded_error"
    assert (gone.provider, gone.instead_of, gone.request_id) == ("two", "one", "r1")
    assert back.message == "one answers again, after two"


def test_few_sessions_are_remembered() -> None:
    away = Away()
    for number in range(notices.MOST_SESSIONS + 5):
        away.see(str(number), "r", "two", "one", "")
    assert away.see("0", "r", "one", "one", "") is None
    assert away.see("9", "r", "one", "one", "") is not None


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that were delivered."""
    found: list[str] = []

    def keep(_notify: Notify, notice: notices.Notice, _secrets: frozenset[str]) -> str:
        found.append(f"{notice.event} {notice.session}")
        return ""

    monkeypatch.setattr(notices, "deliver", keep)
    return found


ON = Config(notify=Notify(bell=True))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_of_several_in_a_minute_the_last_is_sent_at_its_end(delivered: list[str]) -> None:
    async def run() -> None:
        it = Notices(Recorder(None), pause=0.2)
        it.see(ON, "s", "r", "two", "one", "529")
        it.see(ON, "t", "r", "two", "one", "529")
        it.see(ON, "t", "r", "one", "one", "")
        await until(lambda: bool(delivered))
        assert delivered == ["failover s"]
        await until(lambda: len(delivered) == 2)
        assert delivered == ["failover s", "recovery t"]
        it.close()

    asyncio.run(run())


def test_a_session_that_came_back_and_left_within_the_minute_is_no_news(
    delivered: list[str],
) -> None:
    async def run() -> None:
        it = Notices(Recorder(None), pause=0.05)
        for provider in ("two", "one", "two"):
            it.see(ON, "s", "r", provider, "one", "")
        await until(lambda: it._timer is None)
        it.see(ON, "s", "r", "one", "one", "")
        await until(lambda: len(delivered) == 2)
        assert delivered == ["failover s", "recovery s"]
        it.close()

    asyncio.run(run())


NOTICE = notices.Notice("failover", "two answers instead of one", "two", "one", "529", "s", "r")

RECORD = """
import json, os, pathlib, sys
given = {name: value for name, value in os.environ.items() if name.startswith(("CCF", "THE_KEY"))}
pathlib.Path(sys.argv[1]).write_text(json.dumps([json.load(sys.stdin), given]))
"""


def test_a_command_gets_the_facts_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret")
    spare = Provider(name="two", base_url="http://two.test", key=KeySource(env="THE_KEY"))
    config = Config(providers=(spare,))
    file = tmp_path / "given"
    notify = Notify(command=(sys.executable, "-c", RECORD, str(file)))
    assert deliver(notify, NOTICE, notices.find_secrets(config)) == ""
    document, variables = msgspec.json.decode(file.read_bytes())
    assert document == {
        "event": "failover",
        "message": "two answers instead of one",
        "provider": "two",
        "insteadOf": "one",
        "reason": "529",
        "session": "s",
        "requestId": "r",
    }
    assert variables["CCFALLBACK_EVENT"] == "failover"
    assert variables["CCFALLBACK_INSTEAD_OF"] == "one"
    assert "THE_KEY" not in variables


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise SystemExit(3)", "exited with 3"),
        # It need not read what it is given.
        ("import os; os.close(0)", ""),
        ("import time; time.sleep(60)", "took longer than 0.3 s and was stopped"),
    ],
)
def test_a_bad_command_is_bounded_and_named(
    monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    monkeypatch.setattr(notices, "COMMAND_SECONDS", 0.3 if "sleep" in code else 20)
    found = deliver(Notify(command=(sys.executable, "-c", code)), NOTICE, frozenset())
    assert problem in found
    assert bool(found) is bool(problem)
    assert "can't be run" in deliver(Notify(command=("/nowhere/at/all",)), NOTICE, frozenset())


def test_a_failing_command_is_logged() -> None:
    kept: list[str] = []

    async def run() -> None:
        recorder = Recorder(None)
        recorder.listeners.append(lambda record: kept.append(record.message))
        it = Notices(recorder)
        config = Config(notify=Notify(command=("/nowhere/at/all",)))
        it.see(config, "s", "r", "two", "one", "")
        await until(lambda: bool(kept))
        it.close()

    asyncio.run(run())
    assert kept[0].startswith("[notify] /nowhere/at/all can't be run")
    assert events.NotifyError.level == "warn"


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal as POSIX has it")
def test_the_bell_rings_in_the_terminal_of_the_process() -> None:
    pty = pytest.importorskip("pty")
    pid, leader = pty.fork()
    if not pid:
        deliver(Notify(bell=True), NOTICE, frozenset())
        os._exit(0)
    assert os.read(leader, 1) == b"\a"
    os.waitpid(pid, 0)
    os.close(leader)


def test_a_running_server_tells_of_a_session_that_moves(
    running: Callable[[str], RunningProxy], upstream: Callable[..., Any], tmp_path: Path
) -> None:
    overloaded = scripted.error(529, "overloaded_error", "Overloaded")
    primary = upstream(scripted.in_sequence(overloaded, overloaded, scripted.reply("Hi")))
    spare = upstream(scripted.reply("Hi"))
    file = tmp_path / "given"
    command = msgspec.json.encode([sys.executable, "-c", RECORD, str(file)]).decode()
    proxy = running(
        f'[notify]\ncommand = {command}\n[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "k"\n'
    )

    def ask(**headers: str) -> str:
        answer = httpx.post(f"{proxy.url}/v1/messages", json=ASK, headers=headers)
        return answer.headers["x-ccfallback-provider"]

    def of(session: str, request_class: str) -> dict[str, str]:
        session_id, kind = "x-claude-code-session-id", "x-claude-code-request-class"
        return {session_id: session, kind: request_class}

    # The failover of a subagent is not that of a session.
    assert ask(**of("5e55-1", "subagent")) == "spare"
    assert ask(**of("5e55-2", "main")) == "spare"
    end = time.monotonic() + 20
    while not file.exists() or not file.read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)
    document, _ = msgspec.json.decode(file.read_bytes())
    assert document["event"] == "failover"
    assert document["message"] == "spare answers instead of anthropic-primary: 529 overloaded_error"
    assert document["session"]
