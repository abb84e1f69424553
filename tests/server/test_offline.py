"""While this machine is offline no provider is blamed, and requests wait briefly."""

import shutil
import subprocess
import sys
from typing import Any

import msgspec
import pytest


@pytest.fixture(scope="module")
def seen() -> Any:
    """What happened in a network namespace of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs `unshare` and `ip`")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace may be made here")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "tests.server.offline"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout)


def test_while_the_network_is_down_no_provider_is_blamed(seen: Any) -> None:
    down = seen["down"]
    assert down["status"] == 502
    assert "this machine seems to be offline" in down["text"]
    assert all(state == [0, None] for state in down["failures"].values())
    assert "circuit_breaker.cooldown" not in down["events"]
    assert set(down["reasons"]) == {"no route to host"}


def test_a_request_tries_again_until_its_wait_is_over(seen: Any) -> None:
    # At once, after 0.5 s, after 1.0 s, and at the end of the 1.2 s; each time both hosts.
    assert seen["down"]["events"].count("provider.attempt") == 8
    assert seen["down"]["headers"]["x-ccfallback-attempts"] == "2"


def test_the_client_gets_a_retry_after_while_offline(seen: Any) -> None:
    assert "x-should-retry" not in seen["down"]["headers"]
    assert "retry-after" not in seen["down"]["headers"]


def test_a_waiting_request_continues_when_the_network_is_back(seen: Any) -> None:
    back = seen["returning"]
    assert back["status"] == 200
    assert back["headers"]["x-ccfallback-provider"] == "anthropic-primary"
    assert "message_stop" in back["text"]
    assert all(state == [0, None] for state in back["failures"].values())
    assert "circuit_breaker.cooldown" not in back["events"]
