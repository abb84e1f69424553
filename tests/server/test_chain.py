"""The candidate providers for a request."""

from collections.abc import Sequence

from ccfallback.config.model import Config, Provider
from ccfallback.server.chain import SKIP_PRIMARY, Chains
from ccfallback.server.context import Context

CONFIG = Config(
    providers=(
        Provider(name="one", base_url="https://one.test"),
        Provider(name="off", base_url="https://off.test", disabled=True),
    )
)


def context(config: Config, headers: Sequence[tuple[bytes, bytes]] = ()) -> Context:
    return Context("id", config, headers, frozenset())


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
