"""How long the real Claude Code waits for a primary that hangs or stalls.

`claude_code` says how to run these tests.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any

import msgspec
import pytest

from ccfallback.config.model import PRIMARY_NAME, Provider
from ccfallback.paths import Paths
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.policy.latency import Digest
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy
from tests.server.claude_code import needs_claude, run_claude, writes_a_file

pytestmark = needs_claude

MODELS = ("claude-opus-4-8", "claude-opus-5-5")
"""What the client asks for without a setting, by its version."""


def an_hour_of_answers(paths: Paths, base_url: str) -> None:
    """Let the state say that the primary has answered Claude Code quickly for an hour."""
    digest, now = Digest(), time()
    for second in range(3600, 0, -30):
        digest.note_answer(1.2 + second % 7 / 10, 77_000, now - second)
    primary = Provider(name=PRIMARY_NAME, base_url=base_url, primary=True)
    entries = {fingerprint(primary, model): digest.to_json(now) for model in MODELS}
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    state = {"version": 1, "providers": {}, "latencies": entries}
    paths.state.write_bytes(msgspec.json.encode(state))


def latencies(proxy: RunningProxy) -> list[float]:
    """How many seconds each request took, in order."""
    return [each["data"]["latency"] / 1000 for each in proxy.events("request.complete")]


def test_a_primary_that_hangs_costs_one_turn_of_a_session_ten_seconds(
    tmp_path: Path,
    paths: Paths,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    written = tmp_path / "work" / "hello.txt"
    primary, fallback = upstream(scripted.hang), upstream()
    fallback.route = writes_a_file(written)
    an_hour_of_answers(paths, primary.url)
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\ntimeouts = {{ first_byte = 30 }}\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path)
    assert result["is_error"] is False
    assert written.read_text() == "written by the tool\n"
    first, *others = latencies(proxy)
    assert 8 <= first <= 10
    assert others
    assert max(others) < 2
    (late,) = proxy.events("provider.timeout")
    assert late["data"]["timeout"] == "first_byte"
    assert "p99 of" in late["data"]["why"]
    assert "over 120 answers" in late["data"]["why"]
    # The next session finds the primary cooling down.
    run_claude(proxy.url, tmp_path)
    assert max(latencies(proxy)[len(others) + 1 :]) < 2


@pytest.mark.parametrize("every", [1.0, 3.0])
def test_a_stream_that_stalls_after_regular_pings_is_given_up_soon(
    every: float,
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    written = tmp_path / "work" / "hello.txt"
    events = scripted.events_of(msgspec.json.encode(scripted.message("I will wr")))
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    stalled: list[float] = []

    async def stall(request: Received, connection: Connection) -> None:
        for _ in range(3):
            await asyncio.sleep(every)
            await connection.chunk(ping)
        stalled.append(monotonic())
        await scripted.hang(request, connection)

    def route(request: Received) -> Script:
        return scripted.stream(events[:3], then=stall)

    primary, fallback = upstream(), upstream()
    primary.route = route
    fallback.route = lambda request: answered_at(request, writes_a_file(written))
    answered: list[float] = []

    def answered_at(request: Received, model: Callable[[Received], Script]) -> Script:
        answered.append(monotonic())
        return model(request)

    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
    )
    result: Any = run_claude(proxy.url, tmp_path)
    assert result["is_error"] is False
    assert written.read_text() == "written by the tool\n"
    (late,) = proxy.events("provider.timeout")
    assert late["data"]["timeout"] == "idle"
    assert 20 <= late["data"]["seconds"] <= 21
    assert "longest gap between pings" in late["data"]["why"]
    assert answered[0] - stalled[0] < 30
