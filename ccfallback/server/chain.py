"""The candidate providers for a request."""

from dataclasses import dataclass
from typing import Final

from ccfallback.config.model import Config, Provider
from ccfallback.policy.breaker import Limits
from ccfallback.policy.context_window import longest_that_fits
from ccfallback.server.context import Context

SKIP_PRIMARY: Final = b"x-ccf-debug-skip-anthropic"
"""A request header: with the value `1` the request does not go to the primary."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The candidate providers for a request, before breaker state is considered."""

    providers: tuple[Provider, ...]
    """A provider with several keys is there with each of them."""
    names: list[str]
    excluded: dict[str, str]
    """Why each other provider of the configuration is not in the chain: a word for the log."""
    limits: Limits
    safe_bytes: float | None
    """The bytes of a body that fits every known context window; `None` if none is known."""

    @classmethod
    def build(cls, config: Config, *, without_primary: bool) -> "Chain":
        """Make the chain of all enabled providers, with or without the primary."""
        providers = tuple(
            provider for provider in config.active if not (without_primary and provider.primary)
        )
        excluded = {
            provider.name: "disabled" if provider.disabled else "header"
            for provider in config.chain
            if provider not in providers
        }
        names = [provider.name for provider in providers]
        accounts = tuple(account for provider in providers for account in provider.accounts)
        limits = Limits.from_config(config)
        return cls(accounts, names, excluded, limits, longest_that_fits(providers))


class Chains:
    """The chains of the current configuration, built once and not for each request."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._chains: dict[bool, Chain] = {}

    def get(self, context: Context) -> Chain:
        """Return the chain of a request."""
        if context.config is not self._config:
            self._config = context.config
            self._chains = {}
        without_primary = context.first.get(SKIP_PRIMARY) == b"1"
        chain = self._chains.get(without_primary)
        if chain is None:
            chain = Chain.build(context.config, without_primary=without_primary)
            self._chains[without_primary] = chain
        return chain
