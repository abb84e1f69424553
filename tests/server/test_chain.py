"""The candidate providers for a request."""

from collections.abc import Sequence

from msgspec.structs import replace

from ccfallback.config.model import Config, Provider, Routes
from ccfallback.server.chain import SKIP_PRIMARY, Chains
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.hints import NO_HINTS, Hints

CONFIG = Config(
    providers=(
        Provider(name="one", base_url="https://one.test"),
        Provider(name="off", base_url="https://off.test", disabled=True),
    )
)


def context(config: Config, headers: Sequence[tuple[bytes, bytes]] = ()) -> Context:
    return Context("id", config, ClientHeaders(headers), frozenset())


def test_a_disabled_provider_is_not_in_the_chain() -> None:
    chain = Chains().get(context(CONFIG))
    assert chain.names == ["anthropic-primary", "one"]
    assert [provider.name for provider in chain.providers] == chain.names
    assert chain.excluded == {"off": "disabled"}


def test_a_header_excludes_the_primary_from_one_request() -> None:
    chains = Chains()
    skipping = context(CONFIG, [(SKIP_PRIMARY, b"1")])
    for _ in range(2):
        assert chains.get(skipping).names == ["one"]
        assert chains.get(skipping).excluded == {"anthropic-primary": "header", "off": "disabled"}
        assert chains.get(context(CONFIG)).names == ["anthropic-primary", "one"]


def test_another_configuration_has_other_chains() -> None:
    chains = Chains()
    chains.get(context(CONFIG))
    assert chains.get(context(Config())).names == ["anthropic-primary"]


def routed(*route: str) -> Config:
    return replace(CONFIG, routes=Routes(auxiliary=route))


AUXILIARY = Hints(request_class="auxiliary")


def test_a_route_says_which_providers_are_tried_and_in_which_order() -> None:
    chains, config = Chains(), routed("one", "anthropic-primary")
    chain = chains.get(context(config), AUXILIARY)
    assert [provider.name for provider in chain.providers] == chain.names
    assert chain.names == ["one", "anthropic-primary"]
    for hints in (NO_HINTS, Hints(request_class="main")):
        assert chains.get(context(config), hints).names == ["anthropic-primary", "one"]


def test_a_provider_that_a_route_does_not_name_is_excluded() -> None:
    chain = Chains().get(context(routed("off", "one")), AUXILIARY)
    assert chain.names == ["one"]
    assert chain.excluded == {"anthropic-primary": "route", "off": "disabled"}


def test_a_header_excludes_the_primary_from_a_route_too() -> None:
    skipping = context(routed("anthropic-primary", "one"), [(SKIP_PRIMARY, b"1")])
    assert Chains().get(skipping, AUXILIARY).names == ["one"]


def test_a_route_without_an_enabled_provider_is_the_whole_chain() -> None:
    assert Chains().get(context(routed("off")), AUXILIARY).names == ["anthropic-primary", "one"]
    skipping = context(routed("anthropic-primary"), [(SKIP_PRIMARY, b"1")])
    assert Chains().get(skipping, AUXILIARY).names == ["one"]
