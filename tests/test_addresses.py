"""Hosts and ports of URLs."""

import pytest

from ccfallback.addresses import address, bare_url, is_local, is_loopback


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "app.localhost", "127.0.0.1", "127.9.9.9"),
        *("::1", "[::1]", "::ffff:127.0.0.1", "ip6-localhost", "localhost.localdomain"),
    ],
)
def test_names_of_the_loopback_interface(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "localhost.example.com", "notlocalhost", "0.0.0.0", "::", "10.0.0.1"),
        *("128.0.0.1", "127.0.0.1.example.com", "::ffff:10.0.0.1", "::2"),
    ],
)
def test_names_that_are_not_the_loopback_interface(host: str) -> None:
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
def test_addresses_are_compared_by_host_and_port(url: str, expected: tuple[str, int]) -> None:
    assert address(url) == expected


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:11434", True),
        ("http://192.168.1.5/v1", True),
        ("http://[fd00::1]:80", True),
        ("https://api.anthropic.com", False),
        ("http://8.8.8.8", False),
    ],
)
def test_a_local_url_leads_to_this_machine_or_a_private_address(url: str, local: bool) -> None:
    assert is_local(url) is local


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass@example.com:8/v1?key=x#end", "https://example.com:8/v1"),
        ("http://[::1]:8787", "http://[::1]:8787"),
        ("http://[", "an invalid URL"),
        ("", ""),
    ],
)
def test_a_bare_url_has_no_part_that_may_be_secret(url: str, shown: str) -> None:
    assert bare_url(url) == shown
