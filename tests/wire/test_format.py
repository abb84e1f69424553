"""What holds for every wire format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.wire import FORMATS, recognize_answer, recognize_refusal
from ccfallback.wire.credential import Credential

PROVIDER = Provider(name="b", base_url="https://h.test")
ASKED = Body.parse(
    b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":1,"stream":true}'
)
MEMBERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


def test_later_counts_replace_earlier_ones() -> None:
    usage = Usage()
    usage.take({"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 7})
    usage.take({"output_tokens": 9, "cache_creation_input_tokens": 3, "input_tokens": None})
    assert usage == Usage(input_tokens=5, output_tokens=9, cache_read=7, cache_write=3)
    assert usage.prompt_tokens == 15


def test_counts_are_unknown_until_reported() -> None:
    assert Usage().prompt_tokens is None
    assert Usage(cache_read=5).prompt_tokens is None
    assert Usage(input_tokens=5).prompt_tokens == 5


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@given(value=JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON) | st.lists(JSON))
def test_no_usage_object_raises_and_only_numbers_count(value: object) -> None:
    usage = Usage()
    usage.take(value)
    for count in (usage.input_tokens, usage.output_tokens, usage.cache_read, usage.cache_write):
        assert count is None or type(count) is int


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_registered_under_its_name(name: str) -> None:
    assert FORMATS[name].name == name


@pytest.mark.parametrize("name", FORMATS)
def test_a_new_translator_is_in_its_initial_state(name: str) -> None:
    stream = FORMATS[name].stream(ASKED, PROVIDER)
    said = [stream.heard, stream.started, stream.complete, stream.finished]
    assert not any(said)
    assert stream.error is None
    assert stream.usage == Usage()
    assert stream.finish() == b""
    assert not stream.complete


@pytest.mark.parametrize("name", FORMATS)
@given(chunks=st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_make_a_format_raise(name: str, chunks: list[bytes]) -> None:
    stream = FORMATS[name].stream(ASKED, PROVIDER)
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
    assert FORMATS[name].whole(b"".join(chunks), ASKED, PROVIDER).error is not None


def url_at(base_url: str, name: str) -> str:
    provider = replace(PROVIDER, base_url=base_url)
    return FORMATS[name].url(provider, "m", stream=True)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/v1/messages"),
        ("https://h/", "https://h/v1/messages"),
        ("https://h:8443", "https://h:8443/v1/messages"),
        ("https://h/v1", "https://h/v1/messages"),
        ("https://h/v1/", "https://h/v1/messages"),
        ("https://h/api/anthropic", "https://h/api/anthropic/v1/messages"),
        ("https://h/api/v1", "https://h/api/v1/messages"),
        ("https://h/v1/messages", "https://h/v1/messages"),
        ("https://h/v1/messages/", "https://h/v1/messages"),
        ("https://h/proxy/messages", "https://h/proxy/messages"),
        ("https://h/my-messages", "https://h/my-messages/v1/messages"),
        ("https://h/v1/messages?key=a&b=c", "https://h/v1/messages?key=a&b=c"),
        ("https://h?key=a", "https://h/v1/messages?key=a"),
        ("https://[::1]:9/v1", "https://[::1]:9/v1/messages"),
    ],
)
def test_the_anthropic_endpoint(base: str, url: str) -> None:
    assert url_at(base, "anthropic") == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/v1/chat/completions"),
        ("https://h/", "https://h/v1/chat/completions"),
        ("https://h/v1", "https://h/v1/chat/completions"),
        ("https://h/api/v1", "https://h/api/v1/chat/completions"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
        ("https://h/v4", "https://h/v4/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/x/chat/completions/", "https://h/x/chat/completions"),
        ("https://h/d?api-version=1", "https://h/d/chat/completions?api-version=1"),
        ("https://h?api-version=1", "https://h/v1/chat/completions?api-version=1"),
    ],
)
def test_the_openai_endpoint(base: str, url: str) -> None:
    assert url_at(base, "openai") == url


PATHS = st.lists(st.sampled_from(["v1", "api", "messages", "chat", "completions"]), max_size=4)


@given(path=PATHS, wire_format=st.sampled_from(sorted(FORMATS)), slash=st.booleans())
def test_the_endpoint_of_an_endpoint_is_itself(
    path: list[str], wire_format: str, slash: bool
) -> None:
    base = "https://h/" + "/".join(path) + ("/" if slash else "")
    url = url_at(base, wire_format)
    assert url_at(url, wire_format) == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/v1/models"),
        ("https://h/v1", "https://h/v1/models"),
        ("https://h/api/v1/messages", "https://h/api/v1/models"),
        ("https://h/x/messages", "https://h/x/v1/models"),
        ("https://h/x?k=v", "https://h/x/v1/models?k=v"),
    ],
)
def test_the_list_of_models(base: str, url: str) -> None:
    provider = replace(PROVIDER, base_url=base)
    assert FORMATS["anthropic"].models_url(provider) == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/v1/models"),
        ("https://h/v4?k=v", "https://h/v4/models?k=v"),
        ("https://h/x/chat/completions", "https://h/x/models"),
    ],
)
def test_the_list_of_models_of_the_openai_format(base: str, url: str) -> None:
    assert FORMATS["openai"].models_url(replace(PROVIDER, base_url=base)) == url


def test_only_the_messages_api_counts_tokens() -> None:
    counting = FORMATS["anthropic"].counting
    assert counting is not None
    assert counting.url(PROVIDER, "m", stream=False) == "https://h.test/v1/messages/count_tokens"
    assert counting.whole(b'{"input_tokens":7}', ASKED, PROVIDER).error is None
    assert counting.whole(b'{"input_tokens":"7"}', ASKED, PROVIDER).error is not None
    huge = b'{"input_tokens":9007199254740992}'
    assert counting.whole(huge, ASKED, PROVIDER).error is not None
    assert FORMATS["openai"].counting is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_request(name: str) -> None:
    wire = FORMATS[name]
    client = [(b"x-secret", b"s"), (b"user-agent", b"claude-cli/2")]
    request = wire.prepare(
        ASKED, client, PROVIDER, Credential("its-key"), via="1.1 us", query="beta=true"
    )
    assert request.method == "POST"
    assert request.url == f"{wire.url(PROVIDER, 'm', stream=True)}?beta=true"
    sent = dict(request.headers)
    assert sent.pop(b"x-api-key") == b"its-key"
    assert sent.pop(b"accept-encoding") == b"identity"
    for header in wire.fallback_headers:
        assert header in request.headers
    assert b"x-secret" not in sent
    assert request.body == wire.request(ASKED, PROVIDER).raw
    assert wire.sign(request, PROVIDER, Credential("its-key"), 0.0) is request
    assert "key" not in repr(request)


@pytest.mark.parametrize(
    ("header", "key", "value"),
    [
        ("x-api-key", "k", "k"),
        ("X-Custom", "Bearer k", "Bearer k"),
        ("Authorization", "k", "Bearer k"),
        ("authorization", "Bearer k", "Bearer k"),
        ("Authorization", "bearer k", "bearer k"),
        ("Authorization", "Basic k", "Basic k"),
        ("Authorization", "bearerk", "Bearer bearerk"),
    ],
)
def test_the_header_that_shows_the_key(header: str, key: str, value: str) -> None:
    provider = replace(PROVIDER, auth_header=header)
    for wire in FORMATS.values():
        assert wire.credentials(provider, Credential(key)) == {header: value}


@pytest.mark.parametrize(
    ("body", "whole", "error"),
    [
        (b'{"id":"x","object":"chat.completion","choices":[]}', "openai", None),
        (b'{"type": "message", "content": []}', "anthropic", None),
        (b'event: message_start\ndata: {"type":"message_start"}', "anthropic", None),
        (b'{"type":"error","error":{"type":"api_error"}}', None, "anthropic"),
        (b'{"error": {"message": "no"}}', None, "openai"),
        (b"", None, None),
        (b"<html>", None, None),
    ],
)
def test_the_format_of_an_answer(body: bytes, whole: str | None, error: str | None) -> None:
    assert recognize_answer(body) is (None if whole is None else FORMATS[whole])
    assert recognize_refusal(body) is (None if error is None else FORMATS[error])
