"""The check of caps: whether a provider is skipped because of what it has cost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccfallback.cli.caps import describe_reached, find_limits
from ccfallback.cli.doctor.context import DoctorContext, Finding, good, problem, warning
from ccfallback.cli.phrases import join_names
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from ccfallback.config.model import Provider


def caps(context: DoctorContext) -> Iterator[Finding]:
    """Whether a provider or a token has reached its cap; an error if no provider is left."""
    if context.config is None:
        return
    limits = find_limits(context.session, context.config, context.now)
    if not limits:
        return
    reached = [limit for limit in limits if limit.is_reached]
    everything = {each.provider for each in reached if each.provider} == {
        provider.name for provider in context.config.active
    }
    for limit in reached:
        period = limit.period
        change = (
            f"config set tokens.N.cap.{period}"
            if limit.token
            else f"providers set {limit.provider} --cap-{period}"
        )
        remedy = f"wait, or raise it: `ccfallback {change} USD`"
        (message,) = describe_reached([limit], context.now)
        yield problem("caps", message, remedy, serious=everything and not limit.token)
    config = context.config
    by_token = any(token.cap.is_set for token in config.tokens)
    blind = {each.name: _unpriced(each) for each in config.active if each.cap.is_set or by_token}
    for name, models in blind.items():
        if models:
            yield warning(
                "caps",
                f"there is a cap, but the price of {join_names(models)} at {name} is unknown, so "
                "that nothing counts towards it",
                f"`ccfallback config set providers.{name}.prices.input USD`, and `.output`",
            )
    if not reached and not any(blind.values()):
        yield good("caps", f"{pluralize(len(limits), 'cap')} of money, none is reached")


def _unpriced(provider: "Provider") -> list[str]:
    """The models that a provider's mapping names and whose price is unknown."""
    from ccfallback.config import prices
    from ccfallback.policy.spend import PriceTable

    if provider.prices.input is not None and provider.prices.output is not None:
        return []
    table = PriceTable.read(prices.load())
    return sorted({each for each in provider.model_mapping.values() if table.find(each) is None})
