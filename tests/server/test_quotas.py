"""The windows of the primary's plan, over real sockets: read, kept, and acted on."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.cli import main
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Script, ScriptedUpstream
from ccfallback.state.file import StateFile
from ccfallback.state.quotas import QUOTAS
from ccfallback.state.sections import Entry
from tests.conftest import RunningProxy

PRIMARY, SPARE = "anthropic-primary", "spare"
MESSAGE = scripted.message([{"type": "text", "text": "well"}])
WELL = scripted.reply("well")
LOGIN = "sk-ant-oat01-first"
OTHER = "sk-ant-oat01-second"
SUBAGENT = {"x-claude-code-request-class": "subagent"}

Start = Callable[..., "Plan"]


def unified(reset: float = 3600.0, status: str = "allowed", **used: float) -> dict[str, str]:
    """The headers of windows that reset in so many seconds; `w5h=0.9` is the 5-hour window."""
    found = {"status": status}
    for name, utilization in used.items():
        window = name.removeprefix("w")
        found[f"{window}-utilization"] = str(utilization)
        found[f"{window}-reset"] = str(time.time() + reset)
        found[f"{window}-status"] = status
    return {f"anthropic-ratelimit-unified-{name}": value for name, value in found.items()}


def answer(headers: Mapping[str, str]) -> Script:
    return scripted.answer(200, msgspec.json.encode(MESSAGE), headers=headers)


def refusal(headers: Mapping[str, str]) -> Script:
    return scripted.error(429, "rate_limit_error", headers=headers)


class Plan:
    """A proxy with a primary whose answers tell windows, and a fallback."""

    def __init__(self, proxy: RunningProxy, primary: ScriptedUpstream) -> None:
        self.proxy = proxy
        self.primary = primary

    def ask(self, login: str = LOGIN, **headers: str) -> str:
        """The provider that answers a request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = httpx.post(
            f"{self.proxy.url}/v1/messages",
            json={
                "model": "claude-sonnet-5-5",
                "max_tokens": 10,
                "messages": [{"role": "user", "content": "hello"}],
            },
            headers={"authorization": f"Bearer {login}", **names},
            timeout=30,
        )
        assert response.status_code == 200
        return response.headers["x-ccfallback-provider"]

    def entries(self) -> dict[str, Any]:
        return QUOTAS.read(StateFile(self.proxy.paths.state).load().sections)


@pytest.fixture
def plan(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    def start(*primary: Script, rules: str = "", fallback: Script = WELL, keys: str = "") -> Plan:
        first, spare = upstream(*primary), upstream(fallback)
        return Plan(
            running(
                f'[primary]\nbase_url = "{first.url}"\n{keys}\n'
                f"[quota]\n{rules}\n"
                f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\n'
            ),
            first,
        )

    return start


def test_every_answer_of_the_primary_is_read_and_kept_for_its_login(plan: Start) -> None:
    it = plan(answer(unified(w5h=0.5)), refusal(unified(w5h=1.0, status="rejected")), answer({}))
    assert [it.ask(), it.ask(), it.ask(OTHER)] == [
        PRIMARY,
        SPARE,
        PRIMARY,
    ]
    readings = it.proxy.events("quota.reading")
    assert [each["data"]["utilization"] for each in readings] == [{"5h": 0.5}, {"5h": 1.0}]
    assert {each["level"] for each in readings} == {"debug"}
    it.proxy.stop()
    ((key, reading),) = it.entries().items()
    assert key.endswith(readings[0]["data"]["login"])
    assert reading.status == "rejected"
    assert [used for _, used in reading.windows["5h"].points] == [0.5, 1.0]
    assert "sk-ant" not in it.proxy.paths.state.read_text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/messages/count_tokens", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/claude-x", 404),
        ("GET", "/api/oauth/usage", 200),
        ("POST", "/api/event_logging/batch", 200),
        ("POST", "/v1/files", 429),
    ],
)
def test_every_other_answer_of_the_primary_is_read_too(
    plan: Start, method: str, path: str, status: int
) -> None:
    body = b'{"input_tokens":5,"data":[]}'
    it = plan(
        scripted.answer(status, body, headers=unified(w5h=0.5)),
        scripted.answer(status, body),
        scripted.answer(status, body, headers=unified(w5h=0.75)),
        rules="switch_at = 0.7",
    )
    for login in (LOGIN, OTHER, LOGIN):
        httpx.request(
            method,
            it.proxy.url + path,
            content=b'{"model":"claude-x","messages":[]}' if method == "POST" else None,
            headers={"authorization": f"Bearer {login}"},
        )
    readings = [each["data"] for each in it.proxy.events("quota.reading")]
    assert [each["utilization"] for each in readings] == [{"5h": 0.5}, {"5h": 0.75}]
    it.primary.script(WELL)
    assert [it.ask(LOGIN), it.ask(OTHER)] == [SPARE, PRIMARY]


def test_the_windows_that_a_key_s_answer_tells_are_those_of_that_key(plan: Start) -> None:
    it = plan(
        scripted.answer(200, b"{}", headers=unified(w5h=0.9)),
        rules="switch_at = 0.7",
        keys='api_keys = ["key-one", "key-two"]',
    )
    httpx.get(f"{it.proxy.url}/v1/models")
    (reading,) = it.proxy.events("quota.reading")
    assert reading["data"]["key"] == 1
    it.primary.script(WELL)
    assert it.ask() == PRIMARY
    assert it.primary.received[-1].header("x-api-key") == "key-two"


def test_from_the_threshold_on_the_primary_comes_after_the_fallbacks(plan: Start) -> None:
    it = plan(answer(unified(w5h=0.92)), rules="switch_at = 0.9")
    assert [it.ask(), it.ask(), it.ask()] == [PRIMARY, SPARE, SPARE]
    assert len(it.primary.received) == 1
    (switch,) = it.proxy.events("quota.switch")
    assert (switch["data"]["window"], switch["data"]["to"]) == ("5h", "fallbacks")
    assert switch["data"]["utilization"] == 0.92
    skip = it.proxy.events("circuit_breaker.skip")[0]["data"]
    assert (skip["reason"], skip["why"]) == ("quota", "the 5-hour window is 92 % used")
    assert skip["cooldownUntil"] > time.time() * 1000


def test_explain_says_why_the_primary_was_not_first(
    plan: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    it = plan(answer(unified(w5h=0.92)), rules="switch_at = 0.9")
    assert [it.ask(), it.ask()] == [PRIMARY, SPARE]
    it.proxy.stop()
    paths = it.proxy.paths
    files = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]
    with pytest.raises(SystemExit):
        main([*map(str, files), "explain", "--last"])
    out = capfd.readouterr().out
    assert "skipped, to be tried after the others" in out
    assert "the 5-hour window is 92 % used, until" in out


def test_another_login_goes_on_with_the_primary(plan: Start) -> None:
    it = plan(answer(unified(w5h=0.92)), answer(unified(w5h=0.1)), rules="switch_at = 0.9")
    assert it.ask() == PRIMARY
    assert [it.ask(OTHER), it.ask(), it.ask(OTHER)] == [
        PRIMARY,
        SPARE,
        PRIMARY,
    ]


def test_the_primary_still_answers_if_the_fallbacks_do_not(plan: Start) -> None:
    overloaded = scripted.error(529, "overloaded_error")
    it = plan(answer(unified(w5h=0.92)), rules="switch_at = 0.9", fallback=overloaded)
    assert [it.ask(), it.ask()] == [PRIMARY, PRIMARY]


def test_classes_are_spared_and_the_main_conversation_is_not(plan: Start) -> None:
    it = plan(answer(unified(w5h=0.6)), rules="spare_from = 0.5")
    assert it.ask() == PRIMARY
    assert it.ask(x_claude_code_request_class="subagent") == SPARE
    assert it.ask(x_claude_code_request_class="main") == PRIMARY
    assert it.ask() == PRIMARY
    skip = it.proxy.events("circuit_breaker.skip")[0]["data"]
    assert "kept for the others" in skip["why"]
    assert it.proxy.events("quota.switch") == []


def test_by_default_a_full_window_moves_nothing(plan: Start) -> None:
    it = plan(answer(unified(w5h=1.0)))
    assert [it.ask(), it.ask()] == [PRIMARY, PRIMARY]
    assert it.proxy.events("quota.switch") == []


def test_at_the_reset_one_session_returns_at_once_and_the_others_follow(plan: Start) -> None:
    it = plan(
        answer(unified(w5h=0.92)),
        answer(unified(w5h=0.01)),
        rules="switch_at = 0.9",
    )
    assert it.ask() == PRIMARY
    sessions = [{"x_claude_code_session_id": f"session-{number}"} for number in range(30)]
    assert it.ask(**sessions[0]) == SPARE
    found = StateFile(it.proxy.paths.state)
    # Another process writes that the window has ended, as if an hour had passed.
    key, reading = _wait_for_entry(it)
    window = reading.windows["5h"]
    ended = msgspec.structs.replace(window, at=time.time() - 3600, reset=time.time() - 1)
    earlier = msgspec.structs.replace(reading, windows={"5h": ended})
    found.update(lambda states: states, [Entry(QUOTAS, key, earlier)])
    asked = [it.ask(**each) for each in sessions]
    assert asked[0] == PRIMARY
    assert asked.count(SPARE) >= 20
    assert it.ask(**sessions[0]) == PRIMARY
    back = it.proxy.events("quota.switch")[-1]["data"]
    assert (back["to"], back["window"]) == ("primary", "5h")


def _wait_for_entry(it: Plan) -> tuple[str, Any]:
    for _ in range(200):
        if entries := it.entries():
            return next(iter(entries.items()))
        time.sleep(0.02)
    raise AssertionError("no reading was saved")


def test_several_keys_of_the_primary_have_windows_of_their_own(plan: Start) -> None:
    it = plan(
        answer(unified(w5h=0.95)),
        answer(unified(w5h=0.1)),
        rules="switch_at = 0.9",
        keys='api_keys = ["sk-ant-one", "sk-ant-two"]',
    )
    assert [it.ask() for _ in range(4)] == [PRIMARY] * 4
    keys = [request.header("x-api-key") for request in it.primary.received]
    assert keys == ["sk-ant-one", "sk-ant-two", "sk-ant-two", "sk-ant-two"]


def test_a_window_that_is_full_before_a_restart_is_full_after_it(
    plan: Start, running: Callable[[str], RunningProxy]
) -> None:
    it = plan(answer(unified(w5h=0.92)), rules="switch_at = 0.9")
    assert it.ask() == PRIMARY
    config = it.proxy.paths.config.read_text()
    it.proxy.stop()
    again = Plan(running(config), it.primary)
    assert again.ask() == SPARE
    assert again.proxy.events("quota.switch")[0]["data"]["to"] == "fallbacks"


def test_a_burst_is_waited_for_instead_of_a_move(plan: Start) -> None:
    it = plan(refusal({"retry-after-ms": "30"}), WELL)
    assert it.ask() == PRIMARY
    assert [each["data"]["reason"] for each in it.proxy.events("provider.attempt")] == [
        "first",
        "retry",
    ]
    it.proxy.wait_for("request.complete")
    it.proxy.stop()
    state = json.loads(it.proxy.paths.state.read_text())["providers"][PRIMARY]
    assert state["consecutiveFailures"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"retry-after": "4"}, id="too long"),
        pytest.param({}, id="without a hint"),
        pytest.param(
            {"retry-after-ms": "30", **unified(w5h=1.0, status="rejected")}, id="a plan's window"
        ),
    ],
)
def test_what_is_not_a_burst_moves_on_at_once(plan: Start, headers: dict[str, str]) -> None:
    it = plan(refusal(headers), WELL)
    assert it.ask() == SPARE
    assert len(it.primary.received) == 1


def test_a_burst_that_goes_on_is_one_failure(plan: Start) -> None:
    it = plan(refusal({"retry-after-ms": "30"}))
    assert it.ask() == SPARE
    assert len(it.primary.received) == 2
    it.proxy.wait_for("request.complete")
    it.proxy.stop()
    state = json.loads(it.proxy.paths.state.read_text())["providers"][PRIMARY]
    assert state["consecutiveFailures"] == 1
