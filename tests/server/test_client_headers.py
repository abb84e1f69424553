"""The headers of a client are kept with its connection, and only as long as they are the same."""

from collections.abc import Callable
from typing import Any

import httpx
from msgspec.structs import replace

from ccfallback.config.model import Config
from ccfallback.redact import KnownSecrets
from ccfallback.server.client_headers import ClientHeaders, recall
from ccfallback.simulator import scripted
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from tests.conftest import Chain

HOST = (b"host", b"localhost")
BETA = (b"anthropic-beta", b"one, two")
EAGER = '[breaker]\nmax_cooldown = 0\n[failback]\nmode = "eager"\n'
WIRE, PRIMARY, NONE = FORMATS["anthropic"], Config().primary, frozenset[bytes]()


class Kept:
    """A connection, as far as it keeps something."""

    memory: object = None


def test_the_same_headers_are_read_once_a_connection() -> None:
    connection: Any = Kept()
    first, length = recall(connection, [HOST, (b"content-length", b"5"), BETA])
    assert (list(first), length) == ([HOST, BETA], b"5")
    assert first.betas == ("one", "two")
    again, length = recall(connection, [HOST, (b"content-length", b"6"), BETA])
    assert again is first
    assert length == b"6"
    without, length = recall(connection, [HOST, BETA])
    assert without is first
    assert length is None
    for other in ([HOST], [HOST, BETA, BETA], [HOST, (b"anthropic-beta", b"one")]):
        changed, _ = recall(connection, other)
        assert changed is not first
        assert list(changed) == other


def test_a_login_and_the_hosts_are_those_of_the_headers() -> None:
    login = ClientHeaders([HOST, (b"authorization", b"Bearer sk-ant-oat01-x"), HOST])
    assert login.login_token == b"sk-ant-oat01-x"
    assert login.hosts == ["localhost", "localhost"]
    assert login.first == dict([HOST, (b"authorization", b"Bearer sk-ant-oat01-x")])


def test_what_was_sent_is_used_again_only_if_all_of_its_reasons_are_the_same() -> None:
    client, key = ClientHeaders([HOST]), Credential("a-key")
    assert client.find_sent(WIRE, PRIMARY, key, NONE) is None
    sent = client.keep_sent([(b"x-api-key", b"a-key")], WIRE, PRIMARY, key, NONE)
    assert client.find_sent(WIRE, PRIMARY, Credential("a-key"), NONE) is sent
    assert client.find_sent(WIRE, PRIMARY, Credential("another"), NONE) is None
    assert client.find_sent(WIRE, PRIMARY, None, NONE) is None
    assert client.find_sent(WIRE, PRIMARY, key, frozenset({b"token"})) is None
    assert client.find_sent(FORMATS["openai"], PRIMARY, key, NONE) is None
    # A configuration that was read again has providers of its own.
    assert client.find_sent(WIRE, replace(PRIMARY, headers={"x-a": "1"}), key, NONE) is None


def test_the_secrets_of_a_request_are_found_again_only_for_the_same_headers() -> None:
    client, sent = ClientHeaders([HOST]), [(b"x-api-key", b"a-key")]
    assert client.find_secrets(sent, PRIMARY, "") is None
    secrets = KnownSecrets(["a-key"])
    client.keep_secrets(secrets, sent, PRIMARY, "")
    assert client.find_secrets(sent, PRIMARY, "") is secrets
    assert client.find_secrets(sent.copy(), PRIMARY, "") is None
    assert client.find_secrets(sent, PRIMARY, "key=another") is None
    assert client.find_secrets(sent, replace(PRIMARY), "") is None
    assert client.find_secrets(sent, replace(PRIMARY, name="b"), "") is None


def test_no_secret_of_a_later_request_of_a_connection_is_logged(
    chain: Callable[..., Chain],
) -> None:
    keys = [f"a key of somebody {number}" for number in range(3)]
    refusals = [scripted.error(429, "rate_limit_error", f"no more for {key}") for key in keys]
    running = chain(refusals, scripted.reply("hello"), more=EAGER)
    body = {"model": "m", "max_tokens": 9, "messages": []}
    with httpx.Client(timeout=30) as client:
        for key in keys:
            client.post(f"{running.url}/v1/messages", params={"key": key}, json=body)
    failures = running.proxy.events("provider.failure")
    assert [each["data"]["error"] for each in failures] == ["no more for ***"] * 3


def test_each_request_of_a_connection_goes_upstream_with_its_own_headers(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("hello"))
    rows = [("one", "a"), ("one", "a"), ("two", "a"), ("one", "b"), ("one", "a")]
    with httpx.Client(timeout=30) as client:
        for key, beta in rows:
            # The length of the body is another one each time.
            body = {"model": f"m-{len(running.primary.received)}", "max_tokens": 9, "messages": []}
            headers = {"x-api-key": key, "anthropic-beta": beta}
            client.post(f"{running.url}/v1/messages", json=body, headers=headers)
    sent = [(each.header("x-api-key"), each.header("anthropic-beta"))
            for each in running.primary.received]  # fmt: skip
    assert sent == rows
    betas = [each.header("anthropic-beta") for each in running.fallback.received]
    assert betas == [beta for _, beta in rows]
    assert not any(each.header("x-api-key") in ("one", "two") for each in running.fallback.received)
    assert all(
        int(each.header("content-length") or 0) == len(each.body)
        for each in (*running.primary.received, *running.fallback.received)
    )
