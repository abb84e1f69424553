"""Several keys of one provider, over real sockets."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy

ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}
WELL = scripted.reply("well")
E401 = scripted.error(401, "authentication_error")
E402 = scripted.error(402, "billing_error")
E403 = scripted.error(403, "permission_error")
E429 = scripted.error(429, "rate_limit_error", headers={"retry-after": "1800"})
E500 = scripted.error(500, "api_error")
E529 = scripted.error(529, "overloaded_error")
CREDIT = scripted.error(400, "invalid_request_error", "Your credit balance is too low")
FIRST, SECOND = "not-the-first-key-aaaa", "not-the-second-key-bbb"


class Keyed:
    """A proxy with a provider of several keys, and another provider behind it."""

    def __init__(
        self,
        upstream: ScriptedUpstream,
        other: ScriptedUpstream,
        running: Callable[[str], RunningProxy],
        keys: str,
        more: str,
    ) -> None:
        self.upstream, self.other, self.running = upstream, other, running
        self.answers: dict[str, Script] = {}
        upstream.route = lambda request: self.answers.get(key_of(request), E401)
        self.config = (
            f'[primary]\ndisabled = true\n\n[[providers]]\nname = "keyed"\n'
            f'base_url = "{upstream.url}"\n{keys}\n\n'
            f'[[providers]]\nname = "other"\nbase_url = "{other.url}"\n{more}\n'
        )
        self.proxy = running(self.config)

    def script(self, **answers: Script) -> None:
        """What the first and the second key get from now on."""
        self.answers = {{"first": FIRST, "second": SECOND}[n]: a for n, a in answers.items()}

    def ask(self, **more: Any) -> httpx.Response:
        body = {**ASK, **more}
        return httpx.post(f"{self.proxy.url}/v1/messages", json=body, timeout=30)

    def outcome(self, **more: Any) -> tuple[int, str | None, int]:
        """The status of an answer, the provider that gave it, and the number of attempts."""
        response = self.ask(**more)
        provider = response.headers.get("x-ccfallback-provider")
        return response.status_code, provider, int(response.headers["x-ccfallback-attempts"])

    def shown(self) -> list[str]:
        """The keys that the upstream has seen since the last time, in order."""
        names = {FIRST: "first", SECOND: "second"}
        shown = [names.get(key_of(request), "?") for request in self.upstream.received]
        self.upstream.received.clear()
        return shown


def key_of(request: Received) -> str:
    return request.header("x-api-key") or ""


Start = Callable[..., Keyed]


@pytest.fixture
def keyed(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    def start(other: Script = WELL, *, keys: str = "", more: str = "") -> Keyed:
        keys = keys or f'api_keys = ["{FIRST}", "{SECOND}"]'
        return Keyed(upstream(WELL), upstream(other), running, keys, more)

    return start


def test_a_key_that_is_used_up_until_its_reset_makes_way_for_the_next(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=WELL)
    assert it.outcome() == (200, "keyed", 2)
    assert it.shown() == ["first", "second"]
    assert it.outcome() == (200, "keyed", 1)
    assert it.shown() == ["second"]
    assert it.other.received == []


@pytest.mark.parametrize("refusal", [E401, E402, E403, E429, CREDIT])
def test_what_concerns_an_account_goes_on_to_the_next_key(keyed: Start, refusal: Script) -> None:
    it = keyed()
    it.script(first=refusal, second=WELL)
    assert it.outcome() == (200, "keyed", 2)
    it.script(first=refusal, second=refusal)
    assert it.outcome() == (200, "other", 3 if refusal is not E429 else 2)


@pytest.mark.parametrize(
    "failure", [E500, E529, scripted.error(404, "not_found_error"), scripted.close]
)
def test_any_other_failure_goes_on_to_the_next_provider(keyed: Start, failure: Script) -> None:
    it = keyed()
    it.script(first=failure, second=WELL)
    assert it.outcome() == (200, "other", 2)
    assert it.shown() == ["first"]


def test_keys_of_variables(keyed: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOND_KEY", SECOND)
    it = keyed(keys='api_key_env = ["FIRST_KEY", "SECOND_KEY"]')
    it.script(second=WELL)
    # The first variable is not set: nothing is sent for it.
    assert it.outcome() == (200, "keyed", 1)
    monkeypatch.setenv("FIRST_KEY", FIRST)
    it.script(first=E401, second=WELL)
    assert it.outcome() == (200, "keyed", 2)
    assert it.shown() == ["second", "first", "second"]


def test_a_restart_keeps_the_state_of_each_key(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=WELL)
    it.ask()
    it.proxy.stop()
    it.shown()
    it.proxy = it.running(it.config)
    assert it.outcome() == (200, "keyed", 1)
    assert it.shown() == ["second"]


def test_the_state_knows_keys_by_a_hash_and_holds_no_secret(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=E401)
    it.ask()
    credentials = it.proxy.state["keyed"]["credentials"]
    assert len(credentials) == 2
    cooling = [each["cooldownUntil"] is not None for each in credentials.values()]
    assert sorted(cooling) == [False, True]
    it.proxy.stop()
    written = it.proxy.paths.state.read_text() + it.proxy.paths.log.read_text()
    assert FIRST not in written
    assert SECOND not in written


def test_the_log_numbers_the_keys(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=WELL)
    it.ask()
    it.ask()
    it.proxy.wait_for("request.complete", 2)
    attempts = [each["data"] for each in it.proxy.events("provider.attempt")]
    assert [(each["key"], each["reason"]) for each in attempts] == [
        (1, "first"),
        (2, "next-key"),
        (2, "first"),
    ]
    (skip,) = it.proxy.events("circuit_breaker.skip")
    assert (skip["data"]["provider"], skip["data"]["key"]) == ("keyed", 1)
    assert skip["message"] == "keyed key 1 is skipped: it is cooling down for another 30 min"


def test_a_single_key_has_no_number(keyed: Start) -> None:
    it = keyed(keys=f'api_keys = ["{FIRST}"]')
    it.script(first=WELL)
    assert it.outcome() == (200, "keyed", 1)
    it.proxy.wait_for("request.complete")
    assert all("key" not in each["data"] for each in it.proxy.events("provider.attempt"))


def test_a_provider_cools_down_when_all_of_its_keys_do(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=E429)
    assert it.outcome() == (200, "other", 3)
    assert it.outcome() == (200, "other", 1)
    assert health(it)["keyed"] is False


def test_a_provider_is_available_while_one_of_its_keys_is(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=E500)
    assert it.outcome() == (200, "other", 3)
    assert health(it)["keyed"] is True
    assert it.outcome() == (200, "other", 2)
    assert it.shown() == ["first", "second", "second"]


def health(it: Keyed) -> dict[str, bool]:
    page = httpx.get(f"{it.proxy.url}/health").json()
    return {each["name"]: each["available"] for each in page["providers"]}


def test_the_keys_of_the_only_provider_cool_down_for_each_other(keyed: Start) -> None:
    it = keyed(more="disabled = true")
    it.script(first=E429, second=WELL)
    assert it.outcome() == (200, "keyed", 2)
    assert it.outcome() == (200, "keyed", 1)
    # What does not concern a key never starts a cooldown of the only provider.
    it.script(first=E429, second=E500)
    for _ in range(5):
        assert it.outcome() == (502, None, 1)
    assert it.proxy.state["keyed"]["cooldownUntil"] is None
    it.script(second=WELL)
    assert it.outcome() == (200, "keyed", 1)


def test_the_safety_valve_takes_the_key_that_is_back_first(keyed: Start) -> None:
    soon = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    it = keyed(more="disabled = true")
    it.script(first=E429, second=soon)
    assert it.outcome() == (502, None, 2)
    it.script(first=WELL, second=WELL)
    assert it.outcome() == (200, "keyed", 1)
    assert it.shown() == ["first", "second", "second"]


def test_the_final_error_names_each_key(keyed: Start) -> None:
    it = keyed(E500)
    it.script(first=E429, second=E401)
    error = it.ask().json()["error"]
    assert [(each["provider"], each.get("key")) for each in error["attempts"]] == [
        ("keyed", 1),
        ("keyed", 2),
        ("other", None),
    ]
    assert "keyed key 1 (429 rate_limit_error, back in 30 min)" in error["message"]


def test_the_client_waits_for_a_key_that_is_back_soon(keyed: Start) -> None:
    """The other key is refused for good, but the request does not fail."""
    soon = scripted.error(429, "rate_limit_error", headers={"retry-after": "20"})
    it = keyed(E401)
    it.script(first=soon, second=E401)
    it.ask()
    response = it.ask()
    assert response.status_code == 502
    assert 0 < int(response.headers["retry-after"]) <= 20
    assert "x-should-retry" not in response.headers


REFUSED_FIELD = scripted.error(
    400, "invalid_request_error", "thinking: Extra inputs are not permitted"
)


def test_a_repair_is_found_once_for_all_keys(keyed: Start) -> None:
    seen: list[tuple[str, bool]] = []

    def route(request: Received) -> Script:
        first = key_of(request) == FIRST
        seen.append(("first" if first else "second", "thinking" in request.json))
        if "thinking" in request.json:
            return REFUSED_FIELD
        return E429 if first else WELL

    it = keyed()
    it.upstream.route = route
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert it.outcome(thinking=thinking, max_tokens=2000) == (200, "keyed", 3)
    assert seen == [("first", True), ("first", False), ("second", False)]
    # What it teaches is known with every key.
    assert it.outcome(thinking=thinking, max_tokens=2000) == (200, "keyed", 1)
    assert seen[3:] == [("second", False)]


def test_counting_tokens_uses_a_key_that_is_available(keyed: Start) -> None:
    it = keyed()
    it.script(first=E429, second=WELL)
    it.ask()
    it.shown()
    it.script(second=scripted.answer(200, b'{"input_tokens":7}'))
    counted = httpx.post(f"{it.proxy.url}/v1/messages/count_tokens", json=ASK, timeout=30)
    assert counted.json()["input_tokens"] == 7
    assert it.shown() == ["second"]


def test_the_keys_of_the_primary(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    there = upstream(WELL)
    there.route = lambda request: WELL if key_of(request) == SECOND else E429
    proxy = running(
        f'[primary]\nbase_url = "{there.url}"\napi_keys = ["{FIRST}", "{SECOND}"]\n'
        '[failover]\non = ["5xx"]\n'
    )
    login = {"authorization": "Bearer sk-ant-oat01-of-the-client"}
    for attempts in ("2", "1"):
        response = httpx.post(f"{proxy.url}/v1/messages", json=ASK, headers=login, timeout=30)
        assert response.status_code == 200
        assert response.headers["x-ccfallback-attempts"] == attempts
    assert not any(request.header("authorization") for request in there.received)
    there.received.clear()
    there.route = lambda _request: scripted.answer(200, b"{}")
    httpx.get(f"{proxy.url}/v1/files", headers=login, timeout=30)
    assert [key_of(request) for request in there.received] == [SECOND]
