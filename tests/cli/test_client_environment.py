import pytest

from ccfallback.cli.client_environment import (
    capturing,
    exempting_loopback,
    leads_to,
    pointing,
    shown_tokens,
)

URL = "http://127.0.0.1:8787"
PROXY = "http://proxy.example:3128"


def test_without_a_token_there_is_only_an_address() -> None:
    assert pointing({"ANTHROPIC_CUSTOM_HEADERS": "a: b"}, URL, None) == {"ANTHROPIC_BASE_URL": URL}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "x-ccf-api-key: t"),
        ("x-team: red", "x-team: red\nx-ccf-api-key: t"),
        ("x-team: red\n\nx-two: 2\n", "x-team: red\nx-two: 2\nx-ccf-api-key: t"),
        ("X-CCF-Api-Key: old\nx-team: red", "x-team: red\nx-ccf-api-key: t"),
        ("x-ccf-api-key: t", "x-ccf-api-key: t"),
    ],
)
def test_a_token_joins_the_headers_that_are_there(before: str, after: str) -> None:
    found = pointing({"ANTHROPIC_CUSTOM_HEADERS": before}, URL, "t")
    assert found == {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_CUSTOM_HEADERS": after}


def test_no_login_is_ever_set() -> None:
    assert not {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"} & set(pointing({}, URL, "t"))


def test_where_a_client_may_show_a_token() -> None:
    environ = {
        "ANTHROPIC_CUSTOM_HEADERS": "x-team: red\nX-Ccf-Api-Key:  one ",
        "ANTHROPIC_AUTH_TOKEN": "two",
        "ANTHROPIC_API_KEY": "three",
    }
    assert shown_tokens(environ) == {
        "ANTHROPIC_AUTH_TOKEN": "two",
        "ANTHROPIC_API_KEY": "three",
        "ANTHROPIC_CUSTOM_HEADERS": "one",
    }
    assert shown_tokens({"ANTHROPIC_CUSTOM_HEADERS": "x-team: red"}) == {}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ({"https_proxy": PROXY}, "https_proxy"),
        ({"ALL_PROXY": PROXY, "NO_PROXY": "example.com"}, "ALL_PROXY"),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "localhost, 127.0.0.1"}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "localhost 127.0.0.1"}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.10"}, "HTTP_PROXY"),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.1", "no_proxy": "x"}, "HTTP_PROXY"),
    ],
)
def test_which_variable_would_capture_loopback(
    environ: dict[str, str], expected: str | None
) -> None:
    assert capturing(environ) == expected


@pytest.mark.parametrize(
    ("no_proxy", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "example.com"}, "example.com,127.0.0.1,localhost,::1"),
        ({"no_proxy": "example.com,localhost,"}, "example.com,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_is_added_to_what_is_exempt(no_proxy: dict[str, str], expected: str) -> None:
    environ = {"HTTP_PROXY": PROXY, **no_proxy}
    found = exempting_loopback(environ)
    assert found == {"NO_PROXY": expected, "no_proxy": expected}
    assert capturing({**environ, **found}) is None


@pytest.mark.parametrize(
    "environ",
    [{}, {"NO_PROXY": "example.com"}, {"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.1,localhost"}],
)
def test_nothing_is_touched_where_nothing_captures(environ: dict[str, str]) -> None:
    assert exempting_loopback(environ) == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, True),
        ("http://localhost:8787/v1", True),
        ("https://127.0.0.1:8787", False),
        ("http://127.0.0.1:8788", False),
        ("", False),
        ("http://[::1", False),
        ("http://127.0.0.1:port", False),
    ],
)
def test_whether_an_address_leads_here(url: str, expected: bool) -> None:
    assert leads_to(url, URL) is expected
