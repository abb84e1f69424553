"""The process's open files, memory allocator and garbage collector."""

import gc
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import sleep

import httpx
import pytest

from ccfallback.server.process import RESERVED_FILES, most_clients
from ccfallback.simulator import scripted
from ccfallback.simulator.faults import FAULTS, Place
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from tests.conftest import RunningProxy

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))
from ccfallback.server.process import raise_file_limit
print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.usefixtures("traced_processes")
def test_the_c_library_takes_the_settings() -> None:
    code = "from ccfallback.server.process import keep_freed_blocks; print(keep_freed_blocks())"
    # In its own process, because the settings cannot be undone.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


def test_the_collector_skips_what_was_loaded_at_the_start() -> None:
    code = (
        "import gc; from ccfallback.server.process import set_start_aside; set_start_aside();"
        "print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"


QUICK = [fault for fault in FAULTS if fault.place is Place.THERE and not fault.waits]
"""What a provider that is there can do, without a wait for a timeout."""

CHAIN = """
[breaker]
max_cooldown = 0
[primary]
base_url = "{}"
[[providers]]
name = "translated"
base_url = "{}"
format = "openai"
api_key = "k"
model_mapping = {{ "*" = "m" }}
[[providers]]
name = "well"
base_url = "{}"
api_key = "k"
"""


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("stream", [False, True])
def test_requests_leave_nothing_for_the_collector(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy], stream: bool
) -> None:
    """Whatever their providers do. Such garbage holds whole bodies until the collector runs."""
    first, second, last = (upstream(scripted.reply("hi")) for _ in range(3))
    second.script(OPENAI.reply("hi"))
    proxy = running(CHAIN.format(first.url, second.url, last.url))
    body = {"model": "m", "max_tokens": 9, "messages": [], "stream": stream}
    asked = 0

    def ask(client: httpx.Client) -> None:
        nonlocal asked
        asked += 1
        # A stream that breaks off is as good as any answer here.
        with suppress(httpx.HTTPError):
            client.post("/v1/messages", json=body)
        while len(proxy.events("request.complete", "request.error")) < asked:
            sleep(0.001)

    with httpx.Client(base_url=proxy.url) as kept:
        ask(kept)
        with collecting_garbage() as garbage:
            ask(kept)
            for fault in QUICK:
                first.script(fault.script("anthropic"))
                ask(kept)
                second.script(fault.script("openai"))
                with httpx.Client(base_url=proxy.url) as new:
                    ask(new)
                second.script(OPENAI.reply("hi"))
    ours = {kind for kind in garbage if kind.__module__.startswith("ccfallback.")}
    # The embedded upstreams are not what this is about.
    assert not {kind for kind in ours if not kind.__module__.startswith("ccfallback.simulator.")}


@contextmanager
def collecting_garbage() -> Iterator[set[type]]:
    """The types of all that becomes garbage and that only the collector finds."""
    kinds: set[type] = set()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield kinds
        gc.collect()
        kinds |= {type(each) for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_the_limit_is_raised_as_far_as_allowed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2000", "2000", "2000"]


@pytest.mark.parametrize("limit", [1024, 65_536, None, 10])
def test_clients_leave_enough_for_upstreams(limit: int | None) -> None:
    count = most_clients(limit)
    assert count >= 1
    if limit is not None and limit > RESERVED_FILES:
        assert 2 * count + RESERVED_FILES <= limit
