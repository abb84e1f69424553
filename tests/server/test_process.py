"""The process's open files, memory allocator and garbage collector."""

import gc
import platform
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from ccfallback.server.process import RESERVED_FILES, most_clients
from ccfallback.simulator import scripted
from tests.conftest import Chain

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))
from ccfallback.server.process import raise_file_limit
print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", [scripted.reply("one"), scripted.error(529, "overloaded_error")])
def test_a_request_leaves_nothing_for_the_collector(
    chain: Callable[..., Chain], first: scripted.Script, stream: bool
) -> None:
    running = chain(first, scripted.reply("two"), more="[breaker]\nmax_cooldown = 0\n")
    count = 0
    body = {"model": "m", "max_tokens": 1, "messages": [], "stream": stream}
    with httpx.Client(base_url=running.url) as client:

        def ask() -> None:
            nonlocal count
            count += 1
            client.post("/v1/messages", json=body).raise_for_status()
            running.proxy.wait_for("request.complete", count)

        ask()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                ask()
            gc.collect()
            kinds = {type(each) for each in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    ours = {kind.__qualname__ for kind in kinds if kind.__module__.startswith("ccfallback.")}
    # The embedded upstreams are not what this is about.
    assert not {name for name in ours if not name.startswith(("Scripted", "Received"))}


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
