"""Whom a request may go to, before anybody is asked how they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccfallback.config.model import Config, Provider
from ccfallback.policy.breaker import Limits, limits_of
from ccfallback.server.context import Context

SKIP_PRIMARY = b"x-ccf-debug-skip-anthropic"


def skips_primary(context: Context) -> bool:
    """Whether the request asks to leave the primary out."""
    return context.first.get(SKIP_PRIMARY) == b"1"


def chain_for(context: Context) -> tuple[Provider, ...]:
    """Whom this request may go to: the enabled ones, without the primary if a header says so."""
    chain = context.config.active
    if skips_primary(context):
        chain = tuple(provider for provider in chain if not provider.primary)
    return chain


def left_out(config: Config, chain: Sequence[Provider]) -> dict[str, str]:
    """Who of the configuration is not in a request's chain, and why."""
    return {
        provider.name: "disabled" if provider.disabled else "header"
        for provider in config.chain
        if provider not in chain
    }


@dataclass(frozen=True, slots=True)
class Route:
    """Whom a request may go to, and how that is told."""

    chain: tuple[Provider, ...]
    names: list[str]
    left_out: dict[str, str]
    limits: Limits


class Routes:
    """The routes of a configuration: made once, not at each request."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._known: dict[bool, Route] = {}

    def of(self, context: Context) -> Route:
        """The route of a request."""
        if context.config is not self._config:
            self._config = context.config
            self._known = {}
        skips = skips_primary(context)
        route = self._known.get(skips)
        if route is None:
            chain = chain_for(context)
            names = [provider.name for provider in chain]
            route = self._known[skips] = Route(
                chain, names, left_out(context.config, chain), limits_of(context.config)
            )
        return route
