"""Where a try goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.wire.target import address, below, endpoint, is_loopback, mapped_model


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
    assert endpoint(base, "anthropic") == url


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
    assert endpoint(base, "openai") == url


PATHS = st.lists(st.sampled_from(["v1", "api", "messages", "chat", "completions"]), max_size=4)


@given(path=PATHS, wire_format=st.sampled_from(["anthropic", "openai"]), slash=st.booleans())
def test_the_endpoint_of_an_endpoint_is_itself(
    path: list[str], wire_format: str, slash: bool
) -> None:
    base = "https://h/" + "/".join(path) + ("/" if slash else "")
    url = endpoint(base, wire_format)
    assert endpoint(url, wire_format) == url


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
def test_another_path_at_a_provider(base: str, url: str) -> None:
    assert below(base, "/v1/models") == url


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "app.localhost", "127.0.0.1", "127.9.9.9"),
        *("::1", "[::1]", "::ffff:127.0.0.1", "ip6-localhost", "localhost.localdomain"),
    ],
)
def test_a_name_of_the_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "localhost.example.com", "notlocalhost", "0.0.0.0", "::", "10.0.0.1"),
        *("128.0.0.1", "127.0.0.1.example.com", "::ffff:10.0.0.1", "::2"),
    ],
)
def test_no_name_of_the_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8787/x", ("loopback", 8787)),
        ("http://localhost:8787", ("loopback", 8787)),
        ("http://[::1]:8787/", ("loopback", 8787)),
        ("https://API.Example.com", ("api.example.com", 443)),
        ("http://example.com", ("example.com", 80)),
    ],
)
def test_an_address_to_compare(url: str, expected: tuple[str, int]) -> None:
    assert address(url) == expected


MAPPING = {
    "claude-opus-5-5": "exact",
    "claude-*": "short glob",
    "claude-sonnet-*": "long glob",
    "claude-haiku-4-5[1m]": "exact with mark",
    "claude-fable-*[1m]": "glob with mark",
}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-5-5", "exact"),
        ("claude-opus-5-5[1m]", "exact"),
        ("claude-opus-5-6", "short glob"),
        ("claude-opus-5-6[1m]", "short glob"),
        ("claude-sonnet-5-5", "long glob"),
        ("claude-sonnet-5-5[1m]", "long glob"),
        ("claude-haiku-4-5[1m]", "exact with mark"),
        ("claude-haiku-4-5", "short glob"),
        ("claude-fable-5[1m]", "glob with mark"),
        ("claude-fable-5-1", "short glob"),
        ("Claude-opus-5-5", "Claude-opus-5-5"),
        ("gpt", "gpt"),
        ("gpt[1m]", "gpt[1m]"),
        ("", ""),
    ],
)
def test_a_model_by_the_providers_name(model: str, name: str) -> None:
    assert mapped_model(model, MAPPING) == name


def test_a_catch_all_loses_to_everything() -> None:
    assert mapped_model("a-b", {"*": "all", "a*": "some"}) == "some"
    assert mapped_model("", {"*": "all"}) == "all"


@given(model=st.text(max_size=10), globs=st.dictionaries(st.text(max_size=6), st.just("to")))
def test_any_mapping_gives_a_name(model: str, globs: dict[str, str]) -> None:
    assert mapped_model(model, globs) in ("to", model)
    assert mapped_model(model, {**globs, model: "exact"}) == "exact"
