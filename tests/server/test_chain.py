"""Whom a request may go to: the enabled ones, and the primary unless the request says so."""

from collections.abc import Sequence

from ccfallback.config.model import Config, Provider
from ccfallback.server.chain import SKIP_PRIMARY, Routes
from ccfallback.server.context import Context

CONFIG = Config(
    providers=(
        Provider(name="one", base_url="https://one.test"),
        Provider(name="off", base_url="https://off.test", disabled=True),
    )
)


def context(config: Config, headers: Sequence[tuple[bytes, bytes]] = ()) -> Context:
    return Context("id", config, headers, frozenset())


def test_the_disabled_are_left_out() -> None:
    route = Routes().of(context(CONFIG))
    assert route.names == ["anthropic-primary", "one"]
    assert [provider.name for provider in route.chain] == route.names
    assert route.left_out == {"off": "disabled"}


def test_a_header_leaves_the_primary_out_of_one_request() -> None:
    routes = Routes()
    skipping = context(CONFIG, [(SKIP_PRIMARY, b"1")])
    for _ in range(2):
        assert routes.of(skipping).names == ["one"]
        assert routes.of(skipping).left_out == {"anthropic-primary": "header", "off": "disabled"}
        assert routes.of(context(CONFIG)).names == ["anthropic-primary", "one"]


def test_another_configuration_has_other_routes() -> None:
    routes = Routes()
    routes.of(context(CONFIG))
    assert routes.of(context(Config())).names == ["anthropic-primary"]
