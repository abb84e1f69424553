"""The settings of allocator and collector, and requests that leave no garbage."""

import gc
import platform
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from ccfallback.simulator import scripted
from tests.conftest import Chain


def test_the_c_library_takes_the_settings() -> None:
    code = "from ccfallback.server.memory import keep_freed_blocks; print(keep_freed_blocks())"
    # In its own process, because the settings cannot be undone.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


def test_what_was_loaded_at_the_start_is_not_looked_at_again() -> None:
    code = (
        "import gc; from ccfallback.server.memory import set_start_aside; set_start_aside();"
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
