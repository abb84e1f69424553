"""Where the server may listen."""

import pytest

from ccfallback.errors import ServeError
from ccfallback.server.listening import find_listen_address, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_loopback_needs_no_token(host: str) -> None:
    assert not find_listen_address(host, 0, has_tokens=False).is_open


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_need_a_token(host: str) -> None:
    assert find_listen_address(host, 0, has_tokens=True).is_open
    with pytest.raises(ServeError, match="no access token") as caught:
        find_listen_address(host, 0, has_tokens=False)
    assert "tokens add" in caught.value.hint


@pytest.mark.parametrize("host", ["not a host", "a" * 70, "\udc80"])
def test_a_name_that_leads_nowhere_is_an_error(host: str) -> None:
    with pytest.raises(ServeError, match="not an address"):
        find_listen_address(host, 0, has_tokens=True)


def test_an_address_of_another_machine_is_told_from_a_port_that_is_taken() -> None:
    # Reserved for documentation (RFC 5737): no machine has it.
    elsewhere = find_listen_address("192.0.2.1", 0, has_tokens=True)
    with pytest.raises(ServeError) as caught:
        listen("192.0.2.1", elsewhere)
    assert "--host" in caught.value.hint
    assert "--port" not in caught.value.hint
