"""Calls in order, their results and errors, and an end that waits for no call that hangs."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ccfallback.server.serial_executor import SerialExecutor

HANGING = """
import sys, threading
import httpx
from pathlib import Path
from ccfallback.server import breakers, serve
from ccfallback.simulator import scripted
from ccfallback.server.serve import BackgroundProxy
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.state import server_file, signatures_file
from ccfallback.paths import Paths
from ccfallback.state.file import StateFile

folder = Path(sys.argv[1])
paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")

breakers.PATIENCE = serve.PATIENCE = 0.1

def hang(*_arguments, **_named):
    threading.Event().wait()

with ScriptedUpstream([scripted.error(500, "api_error")]) as upstream:
    paths.config.write_text(f'[primary]\\nbase_url = "{upstream.url}"\\n')
    proxy = BackgroundProxy(paths)
    with proxy:
        StateFile.update = signatures_file.write = server_file.remove = hang
        proxy.proxy.services.signatures.remember(["c2lnbmF0dXJl"], "b", primary=False)
        body = {"model": "m", "max_tokens": 1, "messages": []}
        print(httpx.post(f"{proxy.url}/v1/messages", json=body).status_code)
    print("stopped")
"""


def test_calls_are_made_in_their_order_in_one_thread() -> None:
    seen: list[tuple[int, str]] = []
    disk = SerialExecutor("of a test")

    def call(number: int) -> int:
        seen.append((number, threading.current_thread().name))
        return number * number

    async def story() -> list[int]:
        return await asyncio.gather(*(disk.run(call, number) for number in range(20)))

    assert asyncio.run(story()) == [number * number for number in range(20)]
    assert seen == [(number, "of a test") for number in range(20)]
    disk.close()


def test_an_error_is_raised_to_the_caller() -> None:
    disk = SerialExecutor("of a test")

    def refuse() -> None:
        raise OSError("full")

    async def story() -> None:
        with pytest.raises(OSError, match="full"):
            await disk.run(refuse)
        assert await disk.run(int, "7") == 7

    asyncio.run(story())
    disk.close()


def test_a_cancelled_call_is_not_started() -> None:
    disk, goes_on, made = SerialExecutor("of a test"), threading.Event(), list[Any]()

    async def story() -> None:
        first = disk.run(goes_on.wait)
        second = disk.run(made.append, 2)
        third = disk.run(made.append, 3)
        second.cancel()
        # The cancellation crosses to the other side in the loop's next round.
        await asyncio.sleep(0)
        goes_on.set()
        await asyncio.gather(first, third)

    asyncio.run(story())
    disk.close()
    assert made == [3]


def test_a_running_call_is_finished_before_the_end() -> None:
    disk, goes_on, made = SerialExecutor("of a test"), threading.Event(), list[Any]()

    def write() -> None:
        goes_on.wait()
        made.append("whole")

    async def story() -> None:
        disk.run(write)

    asyncio.run(story())
    goes_on.set()
    disk.close(10)
    assert made == ["whole"]


def test_the_server_and_its_process_end_although_the_disk_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["500", "stopped"]
    assert done.returncode == 0


@pytest.mark.parametrize("used", [False, True])
async def test_a_closed_executor_accepts_no_call(used: bool) -> None:
    disk = SerialExecutor("of a test")

    if used:
        await disk.run(str)
    disk.close(10)
    with pytest.raises(RuntimeError):
        disk.run(str)
