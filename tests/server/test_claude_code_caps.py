"""What the real Claude Code makes of caps: what it shows, when it stops, and when it tries again.

`claude_code` says how to run these tests.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.policy.spend import NANO
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Script, ScriptedUpstream
from ccfallback.state.ledger import Row
from tests.conftest import RunningProxy
from tests.server.claude_code import (
    CLAUDE,
    Terminal,
    environment,
    key,
    login,
    needs_claude,
    run_claude,
)
from tests.server.test_spending import UNIFIED, ask, counted

pytestmark = needs_claude

USERS: dict[str, Mapping[str, str]] = {
    "key": key(),
    "login": login("sk-ant-oat01-dummy-of-the-user"),
}
REFUSED = scripted.error(429, "rate_limit_error", headers={"retry-after": "7200"})
OVERLOADED = scripted.error(529, "overloaded_error")
SENTENCE = "spare ($0.00 of its cap of $0.00 a day has been spent, back in"

Start = Callable[[Script, float], tuple[RunningProxy, ScriptedUpstream]]
AnyUser = pytest.mark.parametrize("user", USERS)


@pytest.fixture
def capped(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    """A primary with a script, and a fallback whose answers cost 10 cents, with a cap."""

    def start(script: Script, dollars: float) -> tuple[RunningProxy, ScriptedUpstream]:
        primary, spare = upstream(script), upstream(counted())
        proxy = running(
            f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "spare"\n'
            f'base_url = "{spare.url}"\napi_key = "spare-key"\ncap = {{ day = {dollars} }}\n'
        )
        return proxy, primary

    return start


def fail_to_run_claude(url: str, folder: Path, credentials: Mapping[str, str]) -> Any:
    """Claude Code's account of a headless run that ends with an error."""
    done = subprocess.run(
        [CLAUDE, "-p", "Say hello.", "--output-format", "json"],
        cwd=folder,
        env=environment(url, folder, credentials),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout.decode() + done.stderr.decode()
    return msgspec.json.decode(done.stdout)


def is_old() -> bool:
    """Whether it is of a version before 2.1, which shows no text of an error to a login."""
    told = subprocess.run([CLAUDE, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.startswith("2.0.")


@AnyUser
def test_claude_code_stops_at_once_and_shows_which_cap_is_reached(
    user: str, tmp_path: Path, capped: Start
) -> None:
    proxy, _ = capped(REFUSED, 0.0)
    result = fail_to_run_claude(proxy.url, tmp_path, USERS[user])
    assert result["is_error"]
    refused = proxy.events("request.error")
    assert {(each["data"]["status"], each["data"]["error"]) for each in refused} == {
        (429, "billing_error")
    }
    if is_old():
        assert SENTENCE in result["result"] or result["result"] == "API Error: Rate limit reached"
        return
    # One request, no retry; a login's user reads nothing but our sentence.
    assert len(refused) == 1
    assert SENTENCE in result["result"]
    assert "anthropic-primary (429 rate_limit_error, back in 2.0 h)" in result["result"]
    if user == "login":
        assert result["result"].startswith("The spend cap is reached: ")


def test_a_terminal_shows_which_cap_is_reached(tmp_path: Path, capped: Start) -> None:
    if is_old():
        pytest.skip("it shows no text of an error to a login")
    proxy, _ = capped(REFUSED, 0.0)
    with Terminal(proxy.url, tmp_path, "Say hello.", USERS["login"]) as terminal:
        proxy.wait_for("request.error")
        until = time.monotonic() + 20
        while "spend cap is reached" not in terminal.seen() and time.monotonic() < until:
            time.sleep(0.1)
        assert "The spend cap is reached: anthropic-primary (429" in terminal.seen()


@AnyUser
def test_claude_code_waits_for_a_primary_that_is_back_soon(
    user: str, tmp_path: Path, capped: Start
) -> None:
    proxy, primary = capped(OVERLOADED, 0.0)

    hello = scripted.reply("hello")
    primary.route = lambda _: hello if len(proxy.events("request.error")) >= 2 else OVERLOADED
    result = run_claude(proxy.url, tmp_path, task="Say hello.", credentials=USERS[user])
    assert (result["is_error"], result["result"]) == (False, "hello")
    assert {each["data"]["error"] for each in proxy.events("request.error")} == {
        "fallback_exhausted"
    }


@AnyUser
def test_claude_code_waits_for_what_requests_in_flight_have_reserved(
    user: str, tmp_path: Path, capped: Start
) -> None:
    proxy, _ = capped(REFUSED, 5.0)
    reservations = proxy._background.proxy.services.spending.reservations
    held, is_over = reservations.reserve("spare", "m", 6 * NANO), threading.Event()

    def release() -> None:
        while len(proxy.events("request.error")) < 2 and not is_over.wait(0.05):
            pass
        reservations.release("spare", held)

    releasing = threading.Thread(target=release)
    releasing.start()
    try:
        result = run_claude(proxy.url, tmp_path, task="Say hello.", credentials=USERS[user])
    finally:
        is_over.set()
        releasing.join()
    assert (result["is_error"], result["result"]) == (False, "hello")


@AnyUser
def test_a_warning_near_the_cap_changes_nothing_for_claude_code(
    user: str, tmp_path: Path, capped: Start
) -> None:
    proxy, _ = capped(REFUSED, 5.0)
    spending = proxy._background.proxy.services.spending
    spending.put(Row(at=time.time(), provider="spare", cost=4.0))
    assert ask(proxy.url).headers[f"{UNIFIED}status"] == "allowed_warning"
    result = run_claude(proxy.url, tmp_path, task="Say hello.", credentials=USERS[user])
    assert (result["is_error"], result["result"]) == (False, "hello")
    assert proxy.events("request.error") == []
