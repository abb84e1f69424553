"""The access token of a client: its name in log and metrics, and its cap."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ccfallback.config.model import Token
from ccfallback.redact import Secret
from ccfallback.server.gate import find_token
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.state import ledger
from tests.conftest import RunningProxy
from tests.server.test_metrics import labels, scraped
from tests.server.test_spending import ASK, UNIFIED, ask, config_of, counted, rows

Upstream = Callable[..., ScriptedUpstream]
Run = Callable[[str], RunningProxy]

TOKENS = """\
[[tokens]]
token = "token-of-the-laptop"
note = "laptop"

[[tokens]]
token = "token-without-a-note"

[[tokens]]
token = "token-of-the-phone"
note = "phone"
cap = { day = 0.15 }
"""
LAPTOP, UNNAMED, PHONE = (
    {"x-ccf-api-key": f"token-{each}"}
    for each in ("of-the-laptop", "without-a-note", "of-the-phone")
)


@pytest.fixture
def proxy(upstream: Upstream, running: Run) -> RunningProxy:
    return running(config_of(upstream(counted()), upstream(counted())) + TOKENS)


def ask_as(proxy: RunningProxy, token: dict[str, str], **more: Any) -> httpx.Response:
    return ask(proxy.url, headers=dict(token), **more)


def test_the_log_names_the_token_by_its_note(proxy: RunningProxy) -> None:
    assert ask_as(proxy, LAPTOP).status_code == 200
    assert proxy.wait_for("request.complete")["data"]["token"] == "laptop"
    assert proxy.wait_for("request.start")["data"]["token"] == "laptop"
    (row,) = rows(proxy)
    assert row.token == "laptop"


def test_a_token_without_a_note_is_a_short_hash(proxy: RunningProxy) -> None:
    ask_as(proxy, UNNAMED)
    label = proxy.wait_for("request.complete")["data"]["token"]
    assert label.startswith("token-")
    assert len(label) == len("token-") + 8
    assert "without-a-note" not in repr(proxy.records)


def test_a_refused_body_is_logged_with_its_token(proxy: RunningProxy) -> None:
    headers = {**LAPTOP, "content-type": "application/json"}
    refused = httpx.post(f"{proxy.url}/v1/messages", content=b"[]", headers=headers)
    assert refused.status_code == 400
    assert proxy.wait_for("request.error")["data"]["token"] == "laptop"


def test_without_access_tokens_nothing_is_logged_of_them(upstream: Upstream, running: Run) -> None:
    proxy = running(config_of(upstream(counted())))
    ask(proxy.url)
    assert "token" not in proxy.wait_for("request.complete")["data"]
    assert "token" not in proxy.wait_for("request.start")["data"]


@pytest.mark.parametrize(
    ("note", "taken", "label"),
    [
        ("laptop", False, "laptop"),
        (" laptop ", False, "laptop"),
        ("laptop", True, "laptop (token-2f4e6a01)"),
        ("", True, "token-2f4e6a01"),
        ("it is A-TOKEN", False, "token-2f4e6a01"),
    ],
)
def test_the_label_of_a_token(note: str, taken: bool, label: str) -> None:
    token = Token(token=Secret("A-TOKEN"), note=note, is_note_taken=taken)
    assert token.label == label


def test_tokens_with_the_same_note_stay_apart(upstream: Upstream, running: Run) -> None:
    same = TOKENS.replace('"phone"', '"laptop"')
    proxy = running(config_of(upstream(counted())) + same)
    # The first keeps its name, and with it what it has cost.
    for token in (LAPTOP, PHONE):
        ask(proxy.url, headers=dict(token))
    labels = [proxy.wait_for("request.complete", n)["data"]["token"] for n in (1, 2)]
    assert labels[0] == "laptop"
    assert labels[1].startswith("laptop (token-")


def test_any_header_may_carry_the_token() -> None:
    tokens = [Token(token=Secret("one")), Token(token=Secret("two"))]
    assert find_token([(b"authorization", b"Bearer two")], tokens) is tokens[1]
    assert find_token([(b"x-api-key", b"one")], tokens) is tokens[0]
    assert find_token([(b"x-ccf-api-key", b"one"), (b"x-api-key", b"two")], tokens) is tokens[0]
    assert find_token([(b"x-ccf-api-key", b"on"), (b"cookie", b"one")], tokens) is None


COSTS = "ccfallback_access_token_cost_dollars_total"


def test_metrics_count_by_token(proxy: RunningProxy) -> None:
    ask_as(proxy, LAPTOP)
    ask_as(proxy, LAPTOP)
    ask_as(proxy, UNNAMED)
    proxy.wait_for("request.complete", 3)
    found = scraped(proxy.url, **LAPTOP)
    (unnamed,) = {dict(each)["token"] for each in found[COSTS]} - {"laptop"}
    assert re.fullmatch("token-[0-9a-f]{8}", unnamed)
    assert found["ccfallback_access_token_requests_total"] == {
        labels(token="laptop", outcome="answered"): 2,
        labels(token=unnamed, outcome="answered"): 1,
    }
    assert found[COSTS] == {
        labels(token="laptop"): pytest.approx(0.2),
        labels(token=unnamed): pytest.approx(0.1),
    }


def test_metrics_have_no_label_of_a_removed_token(proxy: RunningProxy) -> None:
    ask_as(proxy, LAPTOP)
    proxy.wait_for("request.complete")
    config = proxy.paths.config.read_text().replace('note = "laptop"', 'note = "desk"')
    proxy.paths.config.write_text(config)
    ask_as(proxy, LAPTOP)
    proxy.wait_for("request.complete", 2)
    page = httpx.get(f"{proxy.url}/metrics", headers=LAPTOP).text
    assert 'token="desk"' in page
    assert 'token="laptop"' not in page


# --- Caps ---


def test_a_token_at_its_cap_is_refused_and_others_are_not(proxy: RunningProxy) -> None:
    assert [ask_as(proxy, PHONE).status_code for _ in range(2)] == [200, 200]
    refused = ask_as(proxy, PHONE)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "billing_error")
    message = refused.json()["error"]["message"]
    assert "The spend cap is reached: token phone ($0.20 of its cap of $0.15 a day" in message
    assert "cooling down" not in message
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers[f"{UNIFIED}overage-disabled-reason"] == "org_spend_cap_reached"
    until = str(round(ledger.period_ends(time.time())[0]))
    assert refused.headers[f"{UNIFIED}overage-reset"] == until
    assert refused.headers["x-ccfallback-attempts"] == "0"
    event = proxy.wait_for("spend.cap")["data"]
    assert (event["token"], event["period"], event["cap"]) == ("phone", "day", 0.15)
    assert ask_as(proxy, LAPTOP).status_code == 200


def test_a_cooldown_does_not_hide_the_cap_of_a_token(upstream: Upstream, running: Run) -> None:
    primary = upstream(scripted.error(503, "api_error", headers={"retry-after": "20"}))
    proxy = running(config_of(primary, upstream(counted())) + TOKENS)
    for _ in range(2):
        assert ask_as(proxy, PHONE).headers["x-ccfallback-provider"] == "fallback1"
    refused = ask_as(proxy, PHONE)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "billing_error")


def test_a_token_near_its_cap_is_warned(upstream: Upstream, running: Run) -> None:
    lines = TOKENS.replace("0.15", "0.12")
    proxy = running(config_of(upstream(counted())) + lines)
    warned = ask_as(proxy, PHONE).headers
    assert f"{UNIFIED}status" not in ask_as(proxy, LAPTOP).headers
    assert warned[f"{UNIFIED}status"] == "allowed_warning"
    assert warned[f"{UNIFIED}overage-surpassed-threshold"] == "0.75"


def test_the_plan_of_a_login_is_not_capped_by_its_token(proxy: RunningProxy) -> None:
    for _ in range(2):
        ask_as(proxy, PHONE)
    assert ask_as(proxy, PHONE).status_code == 429
    assert ask_as(proxy, PHONE, key="sk-ant-oat01-a").status_code == 200


def test_requests_in_flight_reserve_what_is_left_of_a_token(
    upstream: Upstream, running: Run
) -> None:
    lines = TOKENS.replace("0.15", "5.00")
    proxy = running(config_of(upstream(counted())) + lines)
    spending = proxy._background.proxy.services.spending
    held = spending.reservations.reserve("other", "m", 6_000_000_000, "token:phone")
    refused = ask_as(proxy, PHONE)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert "requests in flight may cost the rest" in refused.json()["error"]["message"]
    spending.reservations.release("other", held, "token:phone")
    assert ask_as(proxy, PHONE).status_code == 200
    assert spending.reservations.held("token:phone") == 0


def test_a_new_server_knows_what_a_token_has_cost(proxy: RunningProxy) -> None:
    for _ in range(2):
        ask_as(proxy, PHONE)
    rows(proxy, 2)
    other = RunningProxy(proxy.paths)
    try:
        assert ask_as(other, PHONE).status_code == 429
        assert ask_as(other, LAPTOP).status_code == 200
    finally:
        other.stop()


def test_a_cap_that_is_added_counts_what_was_spent_before(proxy: RunningProxy) -> None:
    for _ in range(2):
        ask_as(proxy, LAPTOP)
    rows(proxy, 2)
    config = proxy.paths.config.read_text()
    capped = config.replace('note = "laptop"', 'note = "laptop"\ncap = { month = 0.1 }')
    proxy.paths.config.write_text(capped)
    refused = ask_as(proxy, LAPTOP)
    assert refused.status_code == 429
    assert "a month" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/models/x", "/v1/files", "/api/x"])
def test_at_its_cap_a_token_gets_nothing_passed_through_at_the_owners_cost(
    upstream: Upstream, running: Run, path: str
) -> None:
    primary = upstream(counted())
    proxy = running(config_of(primary, primary='api_key = "k"') + TOKENS)

    def send(method: str, token: dict[str, str]) -> httpx.Response:
        return httpx.request(method, f"{proxy.url}{path}", json=ASK, headers=token)

    assert send("POST", PHONE).status_code == 200
    for _ in range(2):
        assert ask_as(proxy, PHONE).status_code == 200
    before = len(primary.received)
    for method in ("POST", "DELETE"):
        refused = send(method, PHONE)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "billing_error")
        assert "token phone ($0.20 of its cap of $0.15 a day" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
    assert len(primary.received) == before
    assert send("GET", PHONE).status_code == send("POST", LAPTOP).status_code == 200


@pytest.mark.parametrize("own", ["", 'api_key = "sk-ant-oat01-own"'])
def test_what_a_client_or_a_plan_pays_is_passed_through_at_the_cap(
    upstream: Upstream, running: Run, own: str
) -> None:
    proxy = running(config_of(upstream(counted()), primary=f"{own}\ncap = {{ day = 0.0 }}"))
    assert httpx.post(f"{proxy.url}/v1/messages/batches", json=ASK).status_code == 200


def test_the_cap_of_the_primary_holds_for_what_is_passed_through(
    upstream: Upstream, running: Run
) -> None:
    lines = 'api_key = "k"\ncap = { day = 0.0 }'
    proxy = running(config_of(upstream(counted()), primary=lines))
    refused = httpx.post(f"{proxy.url}/v1/messages/batches", json=ASK)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "billing_error")
