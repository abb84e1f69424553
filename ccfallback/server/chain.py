"""The candidate providers for a request."""

from functools import partial
from typing import Final

import msgspec

from ccfallback.config.model import Config, Provider
from ccfallback.events.records import DISABLED, HEADER, ROUTE
from ccfallback.policy.breaker import Limits
from ccfallback.policy.context_window import longest_that_fits
from ccfallback.policy.failover import IsFinal, is_final
from ccfallback.server.context import Context
from ccfallback.server.hints import NO_HINTS, Hints

SKIP_PRIMARY: Final = b"x-ccf-debug-skip-anthropic"
"""A request header: with the value `1` the request does not go to the primary."""


class Chain(msgspec.Struct, frozen=True):
    """The candidate providers for a request, before breaker state is considered."""

    providers: tuple[Provider, ...]
    """A provider with several keys is there with each of them."""
    names: list[str]
    excluded: dict[str, str]
    """Why each other provider of the configuration is not in the chain: a word for the log."""
    limits: Limits
    is_final: IsFinal
    """Whether the client gets an outcome."""
    safe_bytes: float | None
    """The bytes of a body that fits every known context window; `None` if none is known."""
    has_cap: bool = False
    """Whether a provider in it has a cap."""

    @classmethod
    def build(
        cls, config: Config, *, without_primary: bool = False, request_class: str = ""
    ) -> "Chain":
        """Make the chain of all enabled providers, or of those in the route of a class.

        If no provider of a route may be tried, its requests take the whole chain.
        """
        excluded = {provider.name: DISABLED for provider in config.chain if provider.disabled}
        if without_primary:
            excluded.setdefault(config.primary.name, HEADER)
        providers = [provider for provider in config.chain if provider.name not in excluded]
        route = config.routes.get(request_class) or ()
        routed = sorted(
            (provider for provider in providers if provider.name in route),
            key=lambda provider: route.index(provider.name),
        )
        if routed:
            excluded |= {each.name: ROUTE for each in providers if each not in routed}
            providers = routed
        names = [provider.name for provider in providers]
        accounts = tuple(account for provider in providers for account in provider.accounts)
        return cls(
            accounts,
            names,
            excluded,
            Limits.from_config(config),
            partial(is_final, rules=config.failover),
            longest_that_fits(providers),
            has_cap=any(provider.cap.is_set for provider in providers),
        )


class Chains:
    """The chains of the current configuration, built once and not for each request."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._chains: dict[tuple[bool, str], Chain] = {}

    def get(self, context: Context, hints: Hints = NO_HINTS) -> Chain:
        """Return the chain of a request."""
        config = context.config
        if config is not self._config:
            self._config = config
            self._chains = {}
        key = (context.headers.first.get(SKIP_PRIMARY) == b"1", hints.request_class)
        chain = self._chains.get(key)
        if chain is None:
            without_primary, request_class = key
            chain = self._chains[key] = Chain.build(
                config, without_primary=without_primary, request_class=request_class
            )
        return chain
