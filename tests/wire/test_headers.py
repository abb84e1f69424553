"""Which headers are passed on: no credential of the client ever reaches a fallback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Config, Provider
from ccfallback.messages.body import Body
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.headers import (
    HOP_BY_HOP,
    RawHeaders,
    bare_credential,
    end_to_end,
    find,
    response_headers,
    text_headers,
    without_login_beta,
)

PRIMARY = Config().primary
FALLBACK = Provider(name="b", base_url="https://b.test")
BODY = Body.parse(b"{}")
BEARER = replace(FALLBACK, auth_header="Authorization")
MARK = b"the-clients-own-secret"

CLIENT: RawHeaders = (
    (b"host", b"127.0.0.1:8787"),
    (b"authorization", b"Bearer " + MARK),
    (b"x-api-key", MARK),
    (b"cookie", MARK),
    (b"proxy-authorization", MARK),
    (b"x-ccf-api-key", MARK),
    (b"x-ccf-debug-skip-anthropic", b"1"),
    (b"ccr-request-id", b"id"),
    (b"x-claude-code-session-id", MARK),
    (b"x-stainless-os", b"Linux"),
    (b"x-team", MARK),
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"oauth-2025-04-20,claude-code-20250219"),
    (b"user-agent", b"claude-cli/2"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"br"),
    (b"content-type", b"application/json"),
    (b"content-length", b"5"),
    (b"connection", b"keep-alive, X-Named"),
    (b"x-named", MARK),
)


def sent(
    client: RawHeaders,
    provider: Provider,
    key: str | None = None,
    tokens: frozenset[bytes] = frozenset(),
) -> list[tuple[bytes, bytes]]:
    wire = FORMATS[provider.format]
    credential = None if key is None else Credential(key)
    return wire.headers(
        client, provider, credential, via="1.1 ccfallback", tokens=tokens, body=BODY
    )


def names(headers: RawHeaders) -> set[bytes]:
    return {name for name, _ in headers}


def test_a_fallback_gets_a_short_list_of_harmless_headers() -> None:
    assert dict(sent(CLIENT, FALLBACK, "its-key")) == {
        b"anthropic-version": b"2023-06-01",
        b"anthropic-beta": b"claude-code-20250219",
        b"user-agent": b"claude-cli/2",
        b"accept": b"application/json",
        b"content-type": b"application/json",
        b"via": b"1.1 ccfallback",
        b"x-api-key": b"its-key",
    }


def test_a_fallback_without_a_key_gets_no_credential_at_all() -> None:
    headers = sent(CLIENT, FALLBACK)
    assert not names(headers) & {b"authorization", b"x-api-key"}
    assert MARK not in b"".join(value for _, value in headers)


HARMLESS = {
    b"accept", b"content-type", b"user-agent", b"anthropic-beta", b"anthropic-version",
    b"anthropic-dangerous-direct-browser-access", b"x-app", b"via",
}  # fmt: skip
HEADER_NAMES = st.sampled_from(
    sorted({*names(CLIENT), *HOP_BY_HOP, b"x-goog-api-key"})
) | st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
HEADER_VALUES = st.binary(max_size=20).map(lambda value: value + MARK)


@given(
    client=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=12),
    key=st.none() | st.just("its-key"),
    provider=st.sampled_from([FALLBACK, BEARER]),
)
def test_only_harmless_client_headers_reach_a_fallback(
    client: list[tuple[bytes, bytes]], key: str | None, provider: Provider
) -> None:
    for name, value in sent(client, provider, key):
        if MARK in value:
            assert name in HARMLESS
        if name in (b"x-api-key", b"authorization"):
            assert value.endswith(b"its-key")


def test_the_primary_gets_what_the_client_sent() -> None:
    headers = sent(CLIENT, PRIMARY)
    assert find(headers, b"authorization") == "Bearer " + MARK.decode()
    assert find(headers, b"x-api-key") == MARK.decode()
    assert find(headers, b"anthropic-beta") == "oauth-2025-04-20,claude-code-20250219"
    assert find(headers, b"anthropic-version") == "2026-10-21"
    assert find(headers, b"x-claude-code-session-id") == MARK.decode()
    assert find(headers, b"x-team") == MARK.decode()


def test_our_own_and_hop_by_hop_headers_are_not_passed_on() -> None:
    gone = {
        b"host", b"content-length", b"accept-encoding", b"connection", b"x-named",
        b"proxy-authorization", b"x-ccf-api-key", b"x-ccf-debug-skip-anthropic", b"ccr-request-id",
    }  # fmt: skip
    assert not names(sent(CLIENT, PRIMARY)) & gone


def test_the_providers_key_replaces_both_client_credentials() -> None:
    headers = sent(CLIENT, PRIMARY, "its-key")
    assert [value for name, value in headers if name == b"x-api-key"] == [b"its-key"]
    assert b"authorization" not in names(headers)


TOKEN = b"an-access-token"


@given(
    name=st.sampled_from([b"authorization", b"x-api-key", b"x-ccf-api-key"]),
    scheme=st.sampled_from([b"", b"Bearer ", b"bearer  ", b"BEARER\t", b" Bearer \t "]),
    end=st.sampled_from([b"", b" ", b"\t"]),
)
def test_an_access_token_never_reaches_the_primary(name: bytes, scheme: bytes, end: bytes) -> None:
    headers = sent([(name, scheme + TOKEN + end)], PRIMARY, tokens=frozenset({TOKEN}))
    assert TOKEN not in b"".join(value for _, value in headers)


def test_the_clients_own_credential_is_forwarded_next_to_a_token() -> None:
    client = [(b"x-api-key", TOKEN), (b"authorization", b"Bearer " + MARK)]
    headers = sent(client, PRIMARY, tokens=frozenset({TOKEN}))
    assert find(headers, b"authorization") == "Bearer " + MARK.decode()
    assert b"x-api-key" not in names(headers)


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        (b"Bearer x", b"x"),
        (b"bearer  x ", b"x"),
        (b"Bearer\tx", b"x"),
        (b"Bearer", b"Bearer"),
        (b"x", b"x"),
        (b" x ", b"x"),
        (b"Basic x", b"Basic x"),
        (b"Bearerx", b"Bearerx"),
        (b"", b""),
    ],
)
def test_a_credential_without_its_scheme(value: bytes, bare: bytes) -> None:
    assert bare_credential(value) == bare


def test_own_headers_override_everything() -> None:
    own = {"User-Agent": "mine", "X-Api-Key": "other", "X-Title": "title", "Anthropic-Version": "1"}
    headers = sent(CLIENT, replace(FALLBACK, headers=own), "its-key")
    for name, value in own.items():
        found = [item for key, item in headers if key == name.lower().encode()]
        assert found == [value.encode()]


def test_own_headers_go_to_the_primary_too() -> None:
    headers = sent(CLIENT, replace(PRIMARY, headers={"Authorization": "mine"}))
    assert [value for name, value in headers if name == b"authorization"] == [b"mine"]


def test_via_names_this_proxy() -> None:
    headers = sent([(b"via", b"1.0 other")], PRIMARY)
    assert [value for name, value in headers if name == b"via"] == [b"1.0 other, 1.1 ccfallback"]


def test_only_a_request_with_a_body_has_a_content_type() -> None:
    assert find(sent([], FALLBACK), b"content-type") == "application/json"
    for client in (
        [(b"content-type", b"")],
        [(b"connection", b"content-type"), (b"content-type", b"x")],
    ):
        found = [value for name, value in sent(client, FALLBACK) if name == b"content-type"]
        assert found == [b"application/json"]
    without = FORMATS["anthropic"].headers([], FALLBACK, None, via="v")
    assert find(without, b"content-type") is None


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"oauth-2025-04-20", b""),
        (b"a,oauth-2025-04-20,b", b"a,b"),
        (b" a , oauth-1 ,, b ", b"a,b"),
        (b"not-oauth-1", b"not-oauth-1"),
        (b"", b""),
    ],
)
def test_the_login_flag_is_removed_from_the_betas(value: bytes, left: bytes) -> None:
    assert without_login_beta(value) == left
    kept = [item for name, item in sent([(b"anthropic-beta", value)], FALLBACK)
            if name == b"anthropic-beta"]  # fmt: skip
    assert kept == ([left] if left else [])


@given(
    headers=st.lists(st.tuples(HEADER_NAMES, st.just(b"?")), max_size=8),
    named=st.lists(HEADER_NAMES, max_size=3),
)
def test_hop_by_hop_headers_are_not_passed_on(
    headers: list[tuple[bytes, bytes]], named: list[bytes]
) -> None:
    listed = (b"connection", b" , ".join(name.upper() for name in named))
    left = names(end_to_end([*headers, listed]))
    assert not left & HOP_BY_HOP
    assert not left & set(named)
    assert left == names(headers) - HOP_BY_HOP - set(named)


UPSTREAM: RawHeaders = (
    (b"content-type", b"text/event-stream"),
    (b"content-length", b"5"),
    (b"content-encoding", b"gzip"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"x-named"),
    (b"x-named", b"1"),
    (b"request-id", b"req_1"),
    (b"retry-after", b"5"),
    (b"anthropic-ratelimit-unified-status", b"allowed"),
    (b"set-cookie", b"a=b"),
    (b"set-cookie", b"c=d"),
    (b"x-ccfallback-provider", b"forged"),
    (b"ccr-request-id", b"forged"),
)


def test_the_primarys_answer_keeps_its_headers() -> None:
    headers = response_headers(UPSTREAM, PRIMARY, decoded=False)
    assert headers == [
        (b"content-type", b"text/event-stream"),
        (b"content-encoding", b"gzip"),
        (b"request-id", b"req_1"),
        (b"retry-after", b"5"),
        (b"anthropic-ratelimit-unified-status", b"allowed"),
        (b"set-cookie", b"a=b"),
        (b"set-cookie", b"c=d"),
    ]


def test_a_decoded_body_has_no_encoding() -> None:
    assert b"content-encoding" not in names(response_headers(UPSTREAM, PRIMARY, decoded=True))


def test_rate_limits_and_cookies_of_a_fallback_are_dropped() -> None:
    headers = response_headers(UPSTREAM, FALLBACK, decoded=True)
    assert names(headers) == {b"content-type", b"request-id", b"retry-after"}


def test_headers_as_text() -> None:
    assert text_headers([(b"A", b"1"), (b"a", b"2"), (b"B", b"\xe9")]) == {"a": "1, 2", "b": "é"}
    assert find([(b"a", b"1"), (b"a", b"2")], b"a") == "1"
    assert find([], b"a") is None


spellings = st.sampled_from(
    [b"authorization", b"x-api-key", b"cookie", b"proxy-authorization", b"x-ccf-api-key"]
).flatmap(
    lambda name: st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda up: bytes(
            c - 32 if u and 97 <= c <= 122 else c for c, u in zip(name, up, strict=True)
        )
    )
)


@given(
    names=st.lists(spellings | st.binary(max_size=12), max_size=6),
    wire=st.sampled_from(sorted(FORMATS)),
)
def test_no_credential_reaches_a_fallback_however_it_is_spelled_or_repeated(
    names: list[bytes], wire: str
) -> None:
    client = [(name, b"Bearer the-clients-secret") for name in names]
    client += [(b"connection", b",".join(names))]
    provider = Provider(name="f", base_url="https://f.example", format=wire)
    sent = FORMATS[wire].headers(client, provider, None, via="1.1 me")
    kept = [name.lower() for name, value in sent if b"the-clients-secret" in value]
    assert not set(kept) & {b"authorization", b"x-api-key", b"cookie", b"proxy-authorization"}
    assert not [name for name in kept if name.startswith(b"x-ccf")]
