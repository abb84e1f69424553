"""The caches whose keys a client or a provider chooses keep nothing long."""

import tracemalloc
from collections.abc import Callable
from typing import Final
from urllib import parse

import pytest

from ccfallback.addresses import address
from ccfallback.config.model import Provider
from ccfallback.messages.model_names import find_name
from ccfallback.policy.fingerprints import hash_text
from ccfallback.policy.spend import price_name
from ccfallback.server.gate import _parse_host
from ccfallback.server.hints import SESSION, read_hints
from ccfallback.server.upstream import locate
from ccfallback.short_cache import LONGEST_KEY, short_cache
from ccfallback.wire import FORMATS
from ccfallback.wire.anthropic import path_url
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.headers import client_betas

LONG: Final = 50_000
"""Characters of a key."""


def test_a_result_is_kept_for_a_short_key_only() -> None:
    calls: list[tuple[str, str]] = []

    @short_cache(8)
    def joined(first: str, last: str) -> str:
        calls.append((first, last))
        return first + last

    for _ in range(2):
        assert joined("a", "b" * LONGEST_KEY) == "a" + "b" * LONGEST_KEY
        assert joined("a", "b" * (LONGEST_KEY + 1)) == "a" + "b" * (LONGEST_KEY + 1)
    assert [len(last) for _, last in calls] == [LONGEST_KEY, LONGEST_KEY + 1, LONGEST_KEY + 1]
    joined.cache_clear()
    joined("a", "b" * LONGEST_KEY)
    assert len(calls) == 4


def refused(format_name: str) -> Callable[[str], object]:
    """Make the URL of a model that no platform can have."""
    provider = Provider(name="p", base_url="https://a.example", format=format_name)

    def call(model: str) -> None:
        with pytest.raises(Unconvertible):
            FORMATS[format_name].url(provider, model, stream=True)

    return call


CACHES: Final[dict[str, Callable[[str], object]]] = {
    "the price of a model": price_name,
    "the name of a model": find_name,
    "a model at Bedrock": refused("bedrock"),
    "a model at Vertex": refused("vertex"),
    "a URL": lambda text: locate(f"https://a.example/{text}"),
    "an address": lambda text: address(f"https://a.example/{text}"),
    "a path": lambda text: path_url("https://a.example", f"/v1/{text}"),
    "a credential": lambda text: hash_text(text.encode()),
    "a host": _parse_host,
    "betas": lambda text: client_betas([(b"anthropic-beta", text.encode())]),
    "hints": lambda text: read_hints({SESSION: text.encode()}),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_keeps_no_long_text(name: str) -> None:
    call = CACHES[name]
    call("0" * LONG)
    tracemalloc.start()
    try:
        for number in range(1, 9):
            call(str(number) * LONG)
        # The standard library keeps a hundred URLs of its own.
        parse.clear_cache()  # type: ignore[attr-defined]  # missing in typeshed
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < LONG
