"""The ledger and the caps of a running server."""

import asyncio
import os
import random
import stat
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.config.model import Cap, Config, Provider
from ccfallback.paths import Paths
from ccfallback.server.spending import Spending
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Hangup, Received, Script, ScriptedUpstream
from ccfallback.state import ledger
from ccfallback.state.ledger import Row
from tests.conftest import RunningProxy
from tests.server.test_crash import kill, obey_modes, output_of_server
from tests.server.test_serve import start
from tests.shared_state import until

KILLS = int(os.environ.get("CCFALLBACK_TEST_LEDGER_KILLS", "4"))

ASK = {
    "model": "claude-opus-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}
# 10,000 tokens of the prompt and 2,000 of the answer, at $5 and $25 a million.
EACH = 0.1
UNIFIED = "anthropic-ratelimit-unified-"

Upstream = Callable[..., ScriptedUpstream]
Run = Callable[[str], RunningProxy]


def counted(**counts: Any) -> Script:
    """A good answer with these counts, as a stream or whole."""

    async def script(request: Received, connection: Connection) -> None:
        message = scripted.message("hello", model=request.json["model"])
        message["usage"] = {"input_tokens": 10_000, "output_tokens": 2000, **counts}
        body = msgspec.json.encode(message)
        if request.json.get("stream"):
            await scripted.stream(scripted.events_of(body))(request, connection)
        else:
            await scripted.answer(200, body)(request, connection)

    return script


def ask(url: str, *, key: str = "sk-ant-api03-a", **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    if key.startswith("sk-ant-oat"):
        headers["authorization"] = f"Bearer {key}"
    else:
        headers["x-api-key"] = key
    return httpx.post(f"{url}/v1/messages", json={**ASK, **more}, headers=headers, timeout=30)


def rows(proxy: RunningProxy, count: int = 1) -> list[Row]:
    """The rows of the ledger, as soon as there are so many."""
    proxy._background.proxy.services.spending.flush()
    found = list(ledger.rows_since(proxy.paths.state, 0.0))
    assert len(found) == count
    return found


def config_of(primary: ScriptedUpstream, /, *fallbacks: ScriptedUpstream, **more: str) -> str:
    """A configuration; `more` has lines for the table of a provider."""
    text = f'[primary]\nbase_url = "{primary.url}"\n{more.get("primary", "")}\n'
    for number, each in enumerate(fallbacks, 1):
        name = f"fallback{number}"
        text += f'[[providers]]\nname = "{name}"\nbase_url = "{each.url}"\napi_key = "k"\n'
        text += f"{more.get(name, '')}\n"
    return text


# --- The ledger ---


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_a_row_of_the_ledger(upstream: Upstream, running: Run, stream: bool) -> None:
    usage = {
        "cache_read_input_tokens": 50_000,
        "cache_creation_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
    }
    proxy = running(config_of(upstream(counted(**usage))))
    headers = {"x-claude-code-session-id": "s-1", "x-claude-code-request-class": "subagent"}
    assert ask(proxy.url, stream=stream, headers=headers).status_code == 200
    (row,) = rows(proxy)
    # 0.05 + 0.05 + 50,000 reads 0.025 + 1000 writes 0.00625 + 2000 for an hour 0.02.
    assert row.cost == pytest.approx(0.15125, abs=1e-9)
    assert (row.provider, row.model, row.mapped) == ("anthropic-primary", "claude-opus-5", "")
    assert (row.input, row.output, row.cache_read) == (10_000, 2000, 50_000)
    assert (row.cache_write, row.cache_write_1h) == (1000, 2000)
    assert (row.plan, row.estimated, row.request_class) == (False, False, "subagent")
    assert len(row.session) == 12
    end = proxy.wait_for("request.complete")["data"]
    assert end["cost"] == pytest.approx(0.15125)
    assert end["cache"] == pytest.approx(50 / 63, abs=0.001)
    assert abs(row.at - time.time()) < 60
    path = ledger.ledger_path(proxy.paths.state, ledger.month_of(row.at))
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"hi" not in path.read_bytes()
    assert b"sk-ant" not in path.read_bytes()


def test_a_plan_pays_for_its_own_answers(upstream: Upstream, running: Run) -> None:
    proxy = running(config_of(upstream(counted())))
    ask(proxy.url, key="sk-ant-oat01-secret")
    (row,) = rows(proxy)
    assert (row.cost, row.plan) == (0.0, True)
    assert row.listed == pytest.approx(EACH)
    assert proxy.wait_for("request.complete")["data"]["cost"] == 0.0


def test_an_unknown_price_is_written_as_unknown(upstream: Upstream, running: Run) -> None:
    proxy = running(config_of(upstream(counted())))
    ask(proxy.url, model="claude-opus-99")
    (row,) = rows(proxy)
    assert row.cost is None
    assert proxy.wait_for("request.complete")["data"]["cost"] is None
    path = ledger.ledger_path(proxy.paths.state, ledger.month_of(row.at))
    assert msgspec.json.decode(path.read_bytes())["cost"] is None


def test_a_fallback_is_billed_by_its_own_model_and_prices(upstream: Upstream, running: Run) -> None:
    lines = 'model_mapping = { "*" = "some/model" }\nprices = { input = 1.0, output = 2.0 }'
    primary = upstream(scripted.error(529, "overloaded_error"))
    proxy = running(config_of(primary, upstream(counted()), fallback1=lines))
    ask(proxy.url)
    (row,) = rows(proxy)
    assert (row.provider, row.mapped) == ("fallback1", "some/model")
    assert row.cost == pytest.approx(0.014)


def test_a_torn_answer_costs_its_prompt_and_what_came(upstream: Upstream, running: Run) -> None:
    body = msgspec.json.encode(scripted.message("partial text " * 40))
    events = [event for event in scripted.events_of(body) if b"message_" not in event[:20]]
    start_event = scripted.events_of(body)[0].replace(b'"input_tokens":12', b'"input_tokens":9000')

    async def cut(_request: Received, connection: Connection) -> None:
        raise Hangup

    torn = scripted.stream([start_event, *events[:2]], cut)
    proxy = running(config_of(upstream(torn)))
    with pytest.raises(httpx.HTTPError):
        ask(proxy.url, stream=True)
    proxy.wait_for("request.error")
    (row,) = rows(proxy)
    assert row.estimated
    assert row.input == 9000
    # 520 characters are 130 tokens.
    assert 100 <= row.output <= 150


def test_an_abandoned_answer_costs_its_prompt(upstream: Upstream, running: Run) -> None:
    arrived = threading.Event()

    async def wait(_request: Received, connection: Connection) -> None:
        arrived.set()
        await connection.silence()

    proxy = running(config_of(upstream(wait)))
    long = [{"role": "user", "content": "a word or two " * 500}]

    async def leave_once_it_has_arrived() -> None:
        async with httpx.AsyncClient() as client:
            url = f"{proxy.url}/v1/messages"
            asking = asyncio.create_task(client.post(url, json={**ASK, "messages": long}))
            assert await asyncio.to_thread(arrived.wait, 10)
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(leave_once_it_has_arrived())
    proxy.wait_for("request.error")
    (row,) = rows(proxy)
    assert row.estimated
    assert row.input > 1500
    assert row.output == 0


def test_two_servers_on_one_state_neither_lose_nor_double(upstream: Upstream, paths: Paths) -> None:
    provider = Provider(name="p", base_url="http://x", cap=Cap(day=100.0))
    config = Config(providers=(provider,))
    one, two = Spending(paths.state), Spending(paths.state)
    for each in (one, two):
        each.configure(config)

    async def story() -> None:
        for number in range(200):
            (one, two)[number % 2].put(Row(at=time.time(), provider="p", cost=0.01))
        assert one.flush()
        assert two.flush()
        for each in (one, two):
            await each.refresh(5.0)
            assert each.spent("p").day == 2_000_000_000
            assert each.spent("p").month == 2_000_000_000

    asyncio.run(story())
    one.close()
    two.close()
    assert len(list(ledger.rows_since(paths.state, 0.0))) == 200
    # And a third one that starts later.
    late = Spending(paths.state)
    late.configure(config)
    asyncio.run(late.refresh(5.0))
    assert late.spent("p").day == 2_000_000_000


def test_a_torn_line_and_foreign_lines_are_skipped(paths: Paths) -> None:
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    path.parent.mkdir(parents=True, exist_ok=True)
    good = ledger.encode([Row(at=time.time(), provider="p", cost=1.0)])
    path.write_bytes(good + b'{"at":"x"}\n[]\n\xff\n' + good + good[:20])
    spending = Spending(paths.state)
    spending.configure(Config(providers=(Provider(name="p", base_url="", cap=Cap(day=9.0)),)))
    spending.put(Row(at=time.time(), provider="p", cost=1.0))
    assert spending.flush()
    assert spending.spent("p").day == 3_000_000_000
    spending.close()
    assert len(list(ledger.rows_since(paths.state, 0.0))) == 3


def test_sums_follow_the_calendar(paths: Paths) -> None:
    now = datetime(2026, 11, 30, 23, 59).timestamp()
    clock = [now]
    spending = Spending(paths.state, clock=lambda: clock[0])
    spending.configure(Config(providers=(Provider(name="p", base_url="", cap=Cap(day=9.0)),)))
    for at, dollars in ((now - 86400, 1.0), (now, 2.0)):
        spending.put(Row(at=at, provider="p", cost=dollars))
    assert spending.flush()
    spent = spending.spent("p")
    assert (spent.day, spent.month) == (2_000_000_000, 3_000_000_000)
    clock[0] = datetime(2026, 12, 1, 0, 1).timestamp()
    spending.put(Row(at=clock[0], provider="p", cost=4.0))
    spent = spending.spent("p")
    assert (spent.day, spent.month) == (4_000_000_000, 4_000_000_000)
    assert spending.flush()
    assert spending.spent("p") == spent
    spending.close()
    names = sorted(path.name for path in paths.state.parent.glob("spend-*"))
    assert names == ["spend-2026-11.jsonl", "spend-2026-12.jsonl"]


def test_while_the_disk_refuses_rows_they_count_and_are_written_later(paths: Paths) -> None:
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    path.mkdir(parents=True)
    spending = Spending(paths.state)
    spending.configure(Config(providers=(Provider(name="p", base_url="", cap=Cap(day=9.0)),)))
    spending.put(Row(at=time.time(), provider="p", cost=1.0))
    assert spending.flush()
    assert spending.spent("p").day == 1_000_000_000
    path.rmdir()
    spending.put(Row(at=time.time(), provider="p", cost=1.0))
    assert spending.flush()
    assert spending.spent("p").day == 2_000_000_000
    spending.close()
    assert len(list(ledger.rows_since(paths.state, 0.0))) == 2


def test_refused_rows_are_written_when_the_disk_is_well_although_nobody_asks(
    upstream: Upstream, running: Run, paths: Paths
) -> None:
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    path.mkdir(parents=True)
    proxy = running(config_of(upstream(counted())))
    for _ in range(2):
        assert ask(proxy.url).status_code == 200
    spending = proxy._background.proxy.services.spending
    assert spending.flush()
    assert len(spending._unsaved) == 2
    path.rmdir()
    until(lambda: not spending._unsaved)
    rows(proxy, 2)


def test_a_retry_writes_once_and_is_not_asked_for_twice(paths: Paths) -> None:
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    path.mkdir(parents=True)
    spending = Spending(paths.state)
    spending.retry()
    spending.put(Row(at=time.time(), provider="p", cost=1.0))
    assert spending.flush()
    spending.retry()
    assert spending.flush()
    assert len(spending._unsaved) == 1
    path.rmdir()
    spending.retry()
    spending.retry()
    assert spending.flush()
    assert providers(paths) == ["p"]
    spending.close()
    assert providers(paths) == ["p"]


@pytest.mark.parametrize("foreign", [0.0, 0.5])
def test_rows_are_read_although_no_request_with_a_cap_follows(
    upstream: Upstream, running: Run, monkeypatch: pytest.MonkeyPatch, foreign: float
) -> None:
    monkeypatch.setattr("ccfallback.files.is_local", lambda _path: True)
    proxy = running(config_of(upstream(counted())))
    spending = proxy._background.proxy.services.spending
    spending.put(Row(at=time.time(), provider="p", cost=1.0))
    assert spending.flush()
    # As after a reload that gives one token a cap, while others send the requests.
    spending.configure(Config(providers=(Provider(name="p", base_url="", cap=Cap(day=9.0)),)))
    if foreign:
        asyncio.run(spending.refresh(30))
        path = ledger.ledger_path(proxy.paths.state, ledger.month_of(time.time()))
        with path.open("ab") as file:
            file.write(ledger.encode_row(Row(at=time.time(), provider="p", cost=foreign)))
    for _ in range(3):
        spending.put(Row(at=time.time(), provider="p", cost=1.0))
    until(lambda: spending.spent("p").day == (4 + foreign) * 10**9)
    assert not spending._unread


async def test_a_disk_that_hangs_holds_one_thread(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending(paths.state)
    spending.configure(Config(providers=(Provider(name="p", base_url="", cap=Cap(day=9.0)),)))
    calls, is_called, is_well = [0], threading.Event(), threading.Event()

    def hang() -> None:
        calls[0] += 1
        is_called.set()
        assert is_well.wait(30)

    monkeypatch.setattr(spending, "_write", hang)
    for _ in range(3):
        await spending.refresh(0.01)
        assert is_called.wait(30)
    assert calls == [1]
    is_well.set()
    await spending.refresh(30)
    await spending.refresh(30)
    assert calls[0] > 1


def opened(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Spending:
    """A ledger without caps whose file is open, with one row in it."""
    monkeypatch.setattr("ccfallback.files.is_local", lambda _path: True)
    spending = Spending(paths.state)
    spending.put(Row(at=time.time(), provider="first", cost=1.0))
    assert spending.flush()
    return spending


def providers(paths: Paths) -> list[str]:
    return [row.provider for row in ledger.rows_since(paths.state, 0.0)]


def test_a_row_is_in_the_open_file_at_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    spending = opened(paths, monkeypatch)
    spending.put(Row(at=time.time(), provider="second", cost=1.0))
    assert providers(paths) == ["first", "second"]
    next_month = ledger.period_ends(time.time())[1]
    spending.put(Row(at=next_month, provider="third", cost=1.0))
    assert spending.flush()
    spending.put(Row(at=next_month, provider="fourth", cost=1.0))
    assert providers(paths) == ["first", "second", "third", "fourth"]
    assert len(list(paths.state.parent.glob("spend-*"))) == 2
    spending.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be moved there")
def test_a_row_follows_when_a_person_has_moved_the_file(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = opened(paths, monkeypatch)
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    path.rename(path.with_name("old"))
    spending.put(Row(at=time.time(), provider="second", cost=1.0))
    assert spending.flush()
    assert providers(paths) == ["second"]
    spending.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be removed there")
def test_a_row_is_never_appended_to_a_file_that_was_removed(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = opened(paths, monkeypatch)
    spending.put(Row(at=time.time(), provider="second", cost=1.0))
    ledger.ledger_path(paths.state, ledger.month_of(time.time())).unlink()
    spending.put(Row(at=time.time(), provider="third", cost=1.0))
    assert spending.flush()
    assert providers(paths) == ["third"]
    spending.close()


def test_a_row_of_which_the_disk_takes_half_is_written_once(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = opened(paths, monkeypatch)
    write, halves = os.write, [20]

    def write_half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: halves.pop()] if halves and b"second" in data else data)

    monkeypatch.setattr(os, "write", write_half)
    spending.put(Row(at=time.time(), provider="second", cost=1.0))
    assert spending.flush()
    spending.close()
    assert providers(paths) == ["first", "second"]
    path = ledger.ledger_path(paths.state, ledger.month_of(time.time()))
    assert path.read_bytes().count(b"\n") == 2


# --- Caps ---


def assert_refused(response: httpx.Response, until: float, period: str) -> None:
    assert response.status_code == 429
    headers = response.headers
    assert headers["x-should-retry"] == "false"
    assert 0 < int(headers["retry-after"]) <= 31 * 86400
    told = {k.removeprefix(UNIFIED): v for k, v in headers.items() if k.startswith(UNIFIED)}
    assert told == {
        "status": "rejected",
        "reset": str(round(until)),
        "overage-reset": str(round(until)),
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": period,
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    error = response.json()["error"]
    assert error["type"] == "billing_error"
    assert "\n" not in error["message"]


@pytest.mark.parametrize(("period", "name"), [("day", "daily"), ("month", "monthly")])
def test_a_provider_that_has_reached_its_cap_is_skipped(
    upstream: Upstream, running: Run, period: str, name: str
) -> None:
    primary, fallback = upstream(scripted.error(403, "permission_error")), upstream(counted())
    proxy = running(config_of(primary, fallback, fallback1=f"cap = {{ {period} = 0.15 }}"))
    assert ask(proxy.url).status_code == 200
    assert ask(proxy.url).status_code == 200
    until = ledger.period_ends(time.time())[0 if period == "day" else 1]
    refused = ask(proxy.url)
    assert_refused(refused, until, name)
    message = refused.json()["error"]["message"]
    assert f"fallback1 ($0.20 of its cap of $0.15 a {period} has been spent" in message
    assert "anthropic-primary (403 permission_error" in message
    assert len(fallback.received) == 2
    event = proxy.wait_for("spend.cap")["data"]
    assert (event["provider"], event["period"], event["cap"]) == ("fallback1", period, 0.15)
    assert event["spent"] == pytest.approx(0.2)
    assert event["until"] == round(until * 1000)


def test_the_safety_valve_does_not_open_a_cap(upstream: Upstream, running: Run) -> None:
    primary = upstream(scripted.error(500, "api_error"))
    fallback = upstream(counted(), scripted.error(500, "api_error"))
    proxy = running(config_of(primary, fallback, fallback1="cap = { day = 0.05 }"))
    assert ask(proxy.url).status_code == 200
    for _ in range(5):
        refused = ask(proxy.url)
        assert refused.status_code == 502
        assert "fallback1 ($0.10 of its cap of $0.05 a day" in refused.json()["error"]["message"]
    assert len(fallback.received) == 1


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (scripted.error(529, "overloaded_error"), {}),
        (scripted.error(500, "api_error"), {}),
        (scripted.html(502), {}),
        (scripted.close, {}),
        (scripted.error(503, "api_error", headers={"retry-after": "20"}), {"retry-after": "20"}),
        (
            scripted.error(429, "rate_limit_error", headers={"retry-after": "40"}),
            {"retry-after": "40"},
        ),
    ],
)
def test_a_primary_that_is_back_in_a_moment_is_waited_for_although_the_rest_is_capped(
    upstream: Upstream, running: Run, script: Script, told: dict[str, str]
) -> None:
    primary, fallback = upstream(script), upstream(counted())
    proxy = running(config_of(primary, fallback, fallback1="cap = { day = 0.05 }"))
    assert ask(proxy.url).headers["x-ccfallback-provider"] == "fallback1"
    refused = ask(proxy.url)
    assert (refused.status_code, refused.json()["error"]["type"]) == (502, "fallback_exhausted")
    assert "x-should-retry" not in refused.headers
    assert f"{UNIFIED}status" not in refused.headers
    wait = {name: refused.headers[name] for name in ("retry-after",) if name in refused.headers}
    assert wait.keys() == told.keys()
    assert all(0 < int(wait[name]) <= int(told[name]) for name in told)
    # And as soon as it is back, it answers.
    primary.script(counted())
    if not told:
        assert ask(proxy.url).headers["x-ccfallback-provider"] == "anthropic-primary"


@pytest.mark.parametrize(
    ("script", "lines", "seconds"),
    [
        (scripted.error(401, "authentication_error"), "", None),
        (scripted.error(402, "billing_error"), "", None),
        (scripted.error(400, "invalid_request_error", "Your credit balance is too low"), "", None),
        (scripted.error(429, "rate_limit_error", headers={"retry-after": "2000"}), "", 2000),
        (counted(), "disabled = true", None),
    ],
)
def test_a_primary_that_is_refused_for_long_leaves_the_spend_cap(
    upstream: Upstream, running: Run, script: Script, lines: str, seconds: float | None
) -> None:
    one, two = upstream(counted()), upstream(counted())
    more = dict.fromkeys(("fallback1", "fallback2"), "cap = { day = 0.05 }")
    proxy = running(config_of(upstream(script), one, two, primary=lines, **more))
    served = [ask(proxy.url).headers["x-ccfallback-provider"] for _ in range(2)]
    assert served == ["fallback1", "fallback2"]
    refused = ask(proxy.url)
    assert refused.json()["error"]["type"] == "billing_error"
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    until = ledger.period_ends(time.time())[0]
    assert refused.headers[f"{UNIFIED}overage-reset"] == str(round(until))
    # A primary that is back before the cap ends is waited for.
    back = until if seconds is None else min(until, time.time() + seconds)
    assert float(refused.headers[f"{UNIFIED}reset"]) == pytest.approx(back, abs=60)


def test_another_fallback_serves_while_one_is_capped(upstream: Upstream, running: Run) -> None:
    primary, one, two = upstream(scripted.error(529, "o")), upstream(counted()), upstream(counted())
    proxy = running(config_of(primary, one, two, fallback1="cap = { day = 0.05 }"))
    served = [ask(proxy.url).headers["x-ccfallback-provider"] for _ in range(3)]
    assert served == ["fallback1", "fallback2", "fallback2"]


def test_a_plan_login_is_never_capped(upstream: Upstream, running: Run) -> None:
    proxy = running(config_of(upstream(counted()), primary="cap = { day = 0.05 }"))
    for _ in range(3):
        assert ask(proxy.url, key="sk-ant-oat01-a").status_code == 200
    assert ask(proxy.url).status_code == 200
    assert ask(proxy.url).status_code == 429
    assert ask(proxy.url, key="sk-ant-oat01-a").status_code == 200


def test_an_answer_near_the_cap_warns(upstream: Upstream, running: Run) -> None:
    proxy = running(config_of(upstream(counted()), primary="cap = { day = 0.41 }"))
    answers = [ask(proxy.url) for _ in range(5)]
    assert [each.status_code for each in answers] == [200, 200, 200, 200, 200]
    assert f"{UNIFIED}status" not in answers[2].headers
    warned = answers[3].headers
    until = str(round(ledger.period_ends(time.time())[0]))
    told = {k.removeprefix(UNIFIED): v for k, v in warned.items() if k.startswith(UNIFIED)}
    assert told == {
        "status": "allowed_warning",
        "representative-claim": "overage",
        "overage-status": "allowed_warning",
        "overage-utilization": "0.97",
        "overage-surpassed-threshold": "0.95",
        "reset": until,
        "overage-reset": until,
    }
    assert ask(proxy.url).status_code == 429


@pytest.mark.parametrize(
    ("words", "max_tokens", "usage", "each"),
    [
        (7300, 2000, {}, EACH),
        # A long answer, and a prompt that enters a cache for an hour.
        (
            7300,
            8000,
            {
                "input_tokens": 0,
                "output_tokens": 8000,
                "cache_creation_input_tokens": 10_000,
                "cache_creation": {"ephemeral_1h_input_tokens": 10_000},
            },
            0.3,
        ),
        # More than was asked for.
        (1, 10, {"input_tokens": 10, "output_tokens": 4000}, 0.10005),
    ],
)
def test_forty_requests_at_once_stay_within_one_request_of_the_cap(
    upstream: Upstream,
    running: Run,
    words: int,
    max_tokens: int,
    usage: dict[str, Any],
    each: float,
) -> None:
    # The first burst of all: nothing is known of what the model's answers cost.
    primary = upstream(scripted.in_a_moment(counted(**usage)))
    proxy = running(config_of(primary, primary="cap = { day = 1.0 }"))
    prompt = [{"role": "user", "content": "word " * words}]
    with ThreadPoolExecutor(40) as pool:
        answers = list(
            pool.map(lambda _: ask(proxy.url, messages=prompt, max_tokens=max_tokens), range(40))
        )
    assert {answer.status_code for answer in answers} == {200, 429}
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(served) * each <= 1.0 + each
    # What is reserved is not spent: the client tries again.
    assert any(answer.headers.get("retry-after") == "10" for answer in answers)
    spending = proxy._background.proxy.services.spending
    assert spending.reservations.held("anthropic-primary") == 0
    # In the end all of the cap can be used, and not more than it.
    total = len(served) * each
    while (answer := ask(proxy.url, messages=prompt, max_tokens=max_tokens)).status_code == 200:
        total += each
    assert answer.json()["error"]["type"] == "billing_error"
    assert 1.0 <= round(total, 6) <= 1.0 + each


def test_a_failed_attempt_gives_back_what_it_reserved(upstream: Upstream, running: Run) -> None:
    primary, fallback = upstream(scripted.error(500, "api_error")), upstream(counted())
    more = "cap = { day = 1.0 }"
    proxy = running(config_of(primary, fallback, primary=more, fallback1=more))
    assert ask(proxy.url).status_code == 200
    reservations = proxy._background.proxy.services.spending.reservations
    assert [reservations.held(each) for each in ("anthropic-primary", "fallback1")] == [0, 0]


def test_a_cap_survives_a_restart(upstream: Upstream, paths: Paths) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(config_of(upstream(counted()), primary="cap = { day = 0.05 }"))
    for status in (200, 429):
        process, url = start(paths, "--port", "0")
        try:
            assert ask(url).status_code == status
        finally:
            process.terminate()
            process.wait(20)
            kill(process)


@pytest.mark.parametrize("mode", ["cache", "auto"])
def test_a_session_leaves_a_fallback_that_has_reached_its_cap(
    upstream: Upstream, running: Run, mode: str
) -> None:
    primary = upstream(scripted.error(529, "overloaded_error"), counted())
    text = config_of(primary, upstream(counted()), fallback1="cap = { day = 0.05 }")
    proxy = running(f'[failback]\nmode = "{mode}"\n{text}')
    session = {"x-claude-code-session-id": "s-1"}
    served = [ask(proxy.url, headers=dict(session)) for _ in range(3)]
    names = [answer.headers["x-ccfallback-provider"] for answer in served]
    assert names == ["fallback1", "anthropic-primary", "anthropic-primary"]
    proxy.wait_for("request.complete", 3)
    # It does not say that the session stays with a provider that is skipped then.
    assert proxy.events("failback.stay") == []
    (left,) = proxy.events("failback.return")
    assert left["data"]["reason"] == "unavailable"
    assert left["data"]["why"] == "spend-cap"
    assert left["message"].endswith("it is not available (spend-cap)")


# --- Crashes ---


def keep_asking(url: str, model: str, ended: threading.Event, answered: list[str]) -> None:
    while not ended.is_set():
        try:
            response = ask(url, model=model)
        except httpx.HTTPError:
            return
        if response.status_code == 200:
            answered.append(model)


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize("cap", ["", "cap = { day = 1e6 }"], ids=["no-cap", "cap"])
def test_a_kill_loses_at_most_the_requests_in_flight(
    upstream: Upstream, paths: Paths, cap: str
) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(config_of(upstream(counted()), primary=cap))
    clients, ever = 4, threading.Event()
    # One server lives on, while another one on the same state is killed again and again.
    living, url_of_living = start(paths, "--port", "0")
    served_by_living, answered = list[str](), list[str]()
    asking = threading.Thread(
        target=keep_asking, args=(url_of_living, "claude-opus-4-8", ever, served_by_living)
    )
    asking.start()
    try:
        for lives in range(1, KILLS + 1):
            process, url = start(paths, "--port", "0")
            ended, before = threading.Event(), len(answered)
            threads = [
                threading.Thread(target=keep_asking, args=(url, "claude-opus-5", ended, answered))
                for _ in range(clients)
            ]
            for thread in threads:
                thread.start()
            wanted = before + random.randint(1, 20)
            while len(answered) < wanted:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.01))
            kill(process)
            ended.set()
            for thread in threads:
                thread.join()
            found = list(ledger.rows_since(paths.state, 0.0))
            rows_of_killed = sum(row.model == "claude-opus-5" for row in found)
            # Requests in flight may have left a row and got no answer. An answer without a row is
            # rare: one that ended while a thread of its server read what the other had appended.
            spare = lives if cap else 0
            assert len(answered) - spare <= rows_of_killed <= len(answered) + clients * lives
            assert {row.cost for row in found} == {EACH}
    finally:
        ever.set()
        asking.join()
        living.terminate()
        assert living.wait(20) == 0
        kill(living)
    models = [row.model for row in ledger.rows_since(paths.state, 0.0)]
    # None of the living one's rows is missing, and none is there twice.
    assert models.count("claude-opus-4-8") == len(served_by_living) > 0
    lost = len(answered) - models.count("claude-opus-5")
    figures = f"{len(answered)} answers, {lost} rows fewer, {len(served_by_living)} kept"
    sys.stdout.write(f"{KILLS} kills, {figures}\n")


def serves_without_ledger(paths: Paths, **how: Any) -> None:
    """It answers as ever, and says once what it can't write."""

    def use(url: str) -> None:
        assert [ask(url).status_code for _ in range(3)] == [200, 200, 429]

    assert output_of_server(paths, use, **how).count("ledger can't be written") == 1


def capped(paths: Paths, upstream: Upstream) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(config_of(upstream(counted()), primary="cap = { day = 0.15 }"))


def test_a_full_disk_costs_no_turn(paths: Paths, upstream: Upstream) -> None:
    resource = pytest.importorskip("resource", reason="limits the size of files as POSIX does")
    capped(paths, upstream)

    def no_space() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    serves_without_ledger(paths, preexec_fn=no_space)


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
def test_a_read_only_folder_costs_no_turn(paths: Paths, upstream: Upstream) -> None:
    capped(paths, upstream)
    folder = paths.config.parent
    folder.chmod(0o500)
    try:
        serves_without_ledger(paths, preexec_fn=obey_modes)
    finally:
        folder.chmod(0o700)
