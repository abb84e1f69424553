"""A server behind a load balancer: `/ready`, and the address of the client."""

import sys
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import httpx
import pytest

from ccfallback import addresses
from ccfallback.addresses import TrustedProxies
from ccfallback.errors import ConfigError
from ccfallback.paths import Paths
from ccfallback.server.live_config import config_file
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.conftest import Chain, RunningProxy
from tests.server.test_spending import ask

Start = Callable[..., Chain]

FOREIGN = "203.0.113.7"


# --- /ready ---


def test_a_server_is_ready(chain: Start) -> None:
    running = chain(scripted.reply("hello"))
    answer = httpx.get(f"{running.url}/ready")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "status": "ready"})
    assert httpx.head(f"{running.url}/ready").status_code == 200
    assert httpx.post(f"{running.url}/ready").status_code == 405


def test_a_broken_config_is_not_ready_until_it_is_fixed(chain: Start) -> None:
    running = chain(scripted.reply("hello"))
    file = running.proxy.paths.config
    good = file.read_text()
    file.write_text(good + '\n[[tokens]]\ntoken = "sk-secret-value"\nnot_a_key = 1\n')
    answer = httpx.get(f"{running.url}/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "broken-config")
    assert "secret" not in answer.text
    assert str(file) not in answer.text
    # Requests are still answered, under the last good configuration.
    assert ask(running.url).status_code == 200
    assert httpx.get(f"{running.url}/health").status_code == 200
    file.write_text(good)
    assert httpx.get(f"{running.url}/ready").status_code == 200
    file.unlink()
    assert httpx.get(f"{running.url}/ready").json()["status"] == "broken-config"


def test_without_an_enabled_provider_nothing_is_ready(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    proxy = running("[primary]\ndisabled = true\n")
    answer = httpx.get(f"{proxy.url}/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "no-provider")


def test_a_cooldown_leaves_a_server_ready(chain: Start) -> None:
    bad = scripted.error(429, "rate_limit_error", headers={"retry-after": "60"})
    running = chain(bad, bad)
    assert ask(running.url).status_code == 502
    assert httpx.get(f"{running.url}/ready").status_code == 200


def test_ready_needs_no_token_and_checks_host_and_origin(chain: Start) -> None:
    running = chain(scripted.reply("hello"), more='[[tokens]]\ntoken = "t"\n')
    url = f"{running.url}/ready"
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(url, headers={"origin": "https://evil.example"}).status_code == 403


# --- The address of the client ---


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "1.1.1.1,,203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.1", '"[2001:db8::7]:4711"', "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("fd00::1%eth0", "203.0.113.7", "203.0.113.7"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("", "203.0.113.7", ""),
        ("10.0.0.1", "203.0.113.7" + ", 10.0.0.2" * 19, "203.0.113.7"),
        # No chain of proxies is longer, but a client may send any.
        ("10.0.0.1", "203.0.113.7" + ", 10.0.0.2" * 20, "10.0.0.2"),
    ],
)
def test_the_last_untrusted_address_is_the_client(peer: str, forwarded: str, client: str) -> None:
    assert TrustedProxies(["10.0.0.0/8", "fd00::/8"]).find_client(peer, forwarded) == client


@pytest.mark.parametrize("sign", [".", ":", "[", "0"])
def test_a_text_that_is_too_long_for_an_address_is_not_parsed(
    sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, parsed = TrustedProxies(["10.0.0.0/8"]).find_client, list[str]()

    def parse(text: str) -> object:
        parsed.append(text)
        return ip_address(text)

    monkeypatch.setattr(addresses, "ip_address", parse)
    assert find("10.0.0.1", f"203.0.113.7, {sign * 60000}") == "10.0.0.1"
    assert parsed == ["10.0.0.1"]
    full = ":".join(["2001"] * 8)
    assert find("10.0.0.1", f'"[{full}%a-zone-with-a-name]:65535"') == full


def test_only_the_last_addresses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Counter[str]()
    parse = addresses._parse_address

    def count(text: str) -> object:
        looked[text] += 1
        return parse(text)

    monkeypatch.setattr(addresses, "_parse_address", count)
    TrustedProxies(["10.0.0.0/8"]).find_client("10.0.0.1", ",".join(["10.0.0.2"] * 7000))
    assert looked == {"10.0.0.1": 1, "10.0.0.2": 20}


def test_a_trusted_proxy_tells_the_log_who_the_client_is(chain: Start) -> None:
    running = chain(scripted.reply("hello"), more='[server]\ntrusted_proxies = ["127.0.0.0/8"]\n')
    ask(running.url, headers={"x-forwarded-for": f"1.2.3.4, {FOREIGN}"})
    assert running.proxy.wait_for("request.start")["data"]["client"] == FOREIGN
    headers = {"x-forwarded-for": FOREIGN, "origin": "https://evil.example"}
    assert ask(running.url, headers=headers).status_code == 403
    assert running.proxy.wait_for("auth.failure")["data"]["client"] == FOREIGN
    ask(running.url)
    assert running.proxy.wait_for("request.start", 2)["data"]["client"] == "127.0.0.1"


def test_nobody_else_is_believed(chain: Start) -> None:
    running = chain(scripted.reply("hello"), more='[server]\ntrusted_proxies = ["10.0.0.1"]\n')
    ask(running.url, headers={"x-forwarded-for": FOREIGN})
    assert running.proxy.wait_for("request.start")["data"]["client"] == "127.0.0.1"
    assert FOREIGN not in repr(running.proxy.records)


def test_without_trusted_proxies_there_is_no_address_of_this_machine(chain: Start) -> None:
    running = chain(scripted.reply("hello"))
    ask(running.url, headers={"x-forwarded-for": FOREIGN})
    assert "client" not in running.proxy.wait_for("request.start")["data"]
    assert FOREIGN not in repr(running.proxy.records)


@pytest.mark.skipif(sys.platform != "linux", reason="one loopback address elsewhere")
def test_the_address_of_another_machine_is_logged(chain: Start) -> None:
    running = chain(scripted.reply("hello"))
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport) as client:
        body = {"model": "claude-opus-5", "max_tokens": 9, "messages": []}
        headers = {"x-api-key": "k", "x-forwarded-for": FOREIGN}
        client.post(f"{running.url}/v1/messages", json=body, headers=headers, timeout=30)
    assert running.proxy.wait_for("request.start")["data"]["client"] == "127.0.0.2"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/other"])
@pytest.mark.parametrize("trusted", ["", '[server]\ntrusted_proxies = ["127.0.0.1"]\n'])
def test_no_provider_sees_the_way_of_a_request(chain: Start, path: str, trusted: str) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("hello"), more=trusted)
    body = {"model": "claude-opus-5", "max_tokens": 9, "messages": []}
    way = {
        "x-forwarded-for": FOREIGN,
        "x-forwarded-host": "proxy.example",
        "forwarded": f"for={FOREIGN}",
        "x-real-ip": FOREIGN,
    }
    httpx.post(f"{running.url}{path}", json=body, headers={**way, "x-api-key": "k"}, timeout=30)
    requests = [*running.primary.received, *running.fallback.received]
    assert requests
    for request in requests:
        assert not {name.lower() for name, _ in request.headers} & way.keys()
        assert FOREIGN not in repr(request.headers)


@pytest.mark.parametrize("value", ['"10.0.0.1"', '["proxy.example"]', '["10.0.0.0/99"]', "[1]"])
def test_what_is_no_network_is_a_fault(paths: Paths, value: str) -> None:
    paths.config.parent.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(f"[server]\ntrusted_proxies = {value}\n")
    with pytest.raises(ConfigError, match="a list of IP addresses and networks"):
        config_file(paths.config).load()
