"""What an answer costs, and when a provider has spent all that it may.

Money is a whole number of nano-dollars (a billion of them are a dollar), so that a sum is the sum
of its parts. Prices are pico-dollars a token: a dollar for a million tokens is a million of them.
"""

import re
from collections import deque
from collections.abc import Mapping
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from ccfallback.config.model import Cap, Provider
from ccfallback.messages.model_names import LONGEST_ID, find_name
from ccfallback.messages.tokens import Usage
from ccfallback.short_cache import short_cache

NANO: Final = 1_000_000_000
"""Nano-dollars in a dollar."""

_PICO_A_TOKEN: Final = 1_000_000
_MEMBERS: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
_HOUR_TO_MINUTES: Final = 1.6
"""The price of an hour in the cache by that of 5 minutes: twice and 1.25 times the input."""

_GPT: Final = re.compile(r"(gpt-\d+(?:\.\d+)?(?:-[a-z]+)*?)(?:-\d{4}-?\d\d-?\d\d)?")

# --- Prices ---


class Rates(msgspec.Struct, frozen=True):
    """Pico-dollars a token; `None` is unknown."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None

    @classmethod
    def read(cls, dollars: Mapping[str, Any]) -> "Rates":
        """The rates in a table of dollars for a million tokens; others than prices are ignored."""
        given = ((name, dollars.get(name)) for name in _MEMBERS)
        return cls(**{n: round(p * _PICO_A_TOKEN) for n, p in given if p is not None})


_UNKNOWN: Final = Rates()


class Price(msgspec.Struct, frozen=True):
    """What one model costs."""

    rates: Rates
    threshold: int | None = None
    """The longest prompt, in tokens, for which `rates` are valid."""
    above: Rates = msgspec.field(default_factory=Rates)
    """The rates of a request with a longer prompt."""

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of a request with so many tokens in its prompt."""
        is_long = self.threshold is not None and prompt_tokens > self.threshold
        return self.above if is_long else self.rates


class PriceTable(msgspec.Struct, frozen=True):
    """List prices of models."""

    date: str = ""
    """When they were checked."""
    models: Mapping[str, Price] = {}
    web_search: int = 0
    """Nano-dollars for one search."""

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "PriceTable":
        """The table in the form of `config/prices.toml`."""
        models = {}
        for row in table["prices"]:
            above = row.get("above", {})
            price = Price(Rates.read(row), above.get("prompt"), Rates.read(above))
            models.update(dict.fromkeys(row["models"], price))
        return cls(str(table["date"]), models, round(table["web_search"] * NANO / 1000))

    def find(self, model: str) -> Price | None:
        """The price of a model under whatever name a provider gives it; `None` if unknown."""
        return self.models.get(price_name(model))


@short_cache(512)
def price_name(model: str) -> str:
    """The name by which the table knows a model: `claude-opus-4-5`, `gpt-5.6`.

    Every platform has its own form: `us.anthropic.claude-opus-4-5-20251101-v1:0`,
    `claude-opus-4-5@20251101`, `anthropic/claude-opus-4.5`, `claude-opus-4-5[1m]`.
    """
    model = model[:LONGEST_ID].strip().lower()
    claude = find_name(re.sub(r"(?<=\d)\.(?=\d)", "-", model))
    if claude is not None:
        return f"claude-{claude.family}-{claude.version[0]}-{claude.version[1]}"
    found = _GPT.fullmatch(model.rpartition("/")[2])
    return found[1] if found else model


def percent_of_place(provider: Provider, model: str) -> int:
    """What a platform takes for a model, in percent of the list price.

    Amazon Bedrock and Google Vertex AI charge more where a region is promised, from 4.5 on; `model`
    is the platform's own id.
    """
    regional = provider.platform.regional
    name = find_name(model) if regional else None
    if name is None or name.version < (4, 5):
        return 100
    if "us-gov" in model or provider.region.startswith("us-gov"):
        return 120
    if regional == "model":
        return 100 if "global." in model else 110
    if regional == "location":
        host = urlsplit(provider.base_url).hostname or ""
        own_host = host.endswith("googleapis.com") and host != "aiplatform.googleapis.com"
        return 110 if own_host or provider.google.location != "global" else 100
    return 110


class Work(msgspec.Struct, frozen=True, gc=False):
    """What an answer is billed for."""

    usage: Usage
    model: str
    """By the provider's own name."""
    region: object = None
    """The `inference_geo` of the request."""
    is_fast: bool = False
    """Whether the request asks for the fast mode."""


def cost(work: Work, provider: Provider, table: PriceTable) -> int | None:
    """The list price of an answer in nano-dollars; `None` if a price in it is unknown.

    The provider's own `prices` have priority, and nothing is added to them.
    """
    usage, percent = work.usage, 100 * 100
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    price = table.find(work.model)
    if price is None:
        rates = _UNKNOWN
    elif price.threshold is None:
        rates = price.rates
    else:
        rates = price.rates_for(usage.prompt_tokens or 0)
    if provider.prices.is_set:
        rates = _own_rates(provider, rates)
    else:
        speed = usage.speed or ("fast" if work.is_fast and provider.is_first_party else "")
        region = usage.region or (work.region if provider.is_first_party else None)
        percent = 100 * percent_of_place(provider, work.model)
        if speed == "fast":
            percent *= 2
        if region == "us":
            percent = percent * 110 // 100
    counts = [(usage.input_tokens, rates.input), (usage.output_tokens, rates.output)]
    if usage.cache_read or usage.cache_write or usage.cache_write_1h:
        hour = usage.cache_write_1h or 0
        counts += (
            (usage.cache_read or 0, rates.cache_read),
            (max(0, (usage.cache_write or 0) - hour), rates.cache_write),
            (hour, rates.cache_write_1h),
        )
    total = 0
    for tokens, rate in counts:
        if tokens:
            if rate is None:
                return None
            total += tokens * rate
    nano = (total * percent + 5_000_000) // 10_000_000
    return nano if not usage.web_searches else nano + usage.web_searches * table.web_search


def _own_rates(provider: Provider, listed: Rates) -> Rates:
    """The rates of a provider's `prices`; what it does not give is as listed.

    Where nothing is listed either, tokens of the cache cost as much as any other of the prompt.
    """
    own, prices = provider.prices, Rates.read(provider.prices.given)
    hour = prices.cache_write_1h
    if hour is None and prices.cache_write is not None:
        hour = round(prices.cache_write * _HOUR_TO_MINUTES)
    prices = replace(prices, cache_write_1h=hour)
    merged = {name: getattr(prices, name) for name in _MEMBERS}
    is_listed = listed.input is not None
    for name in _MEMBERS:
        if merged[name] is None:
            merged[name] = getattr(listed, name)
        if merged[name] is None and name.startswith("cache") and not is_listed:
            merged[name] = None if own.input is None else prices.input
    return Rates(**merged)


# --- Estimates ---


CHARACTERS_A_TOKEN: Final = 4
"""Of an answer whose tokens were not counted; Anthropic's own gateway estimates it like that."""

LEAST_ANSWER: Final = 4096
MOST_ANSWER: Final = 32_000
"""Tokens of an answer for which a request reserves money at least, and at most."""


def complete_usage(usage: Usage, *, prompt_tokens: int, written: int, is_whole: bool) -> Usage:
    """The counts of an answer, with estimates for what the upstream has not counted.

    `prompt_tokens` is an estimate, `written` the bytes of content that have come. The count of an
    answer that is not whole is that of its beginning.
    """
    if is_whole and usage.input_tokens is not None and usage.output_tokens is not None:
        return usage
    estimated = ceil(written / CHARACTERS_A_TOKEN)
    output = usage.output_tokens
    if output is None or not is_whole:
        output = max(output or 0, estimated)
    prompt = usage.input_tokens
    return msgspec.structs.replace(
        usage, input_tokens=prompt_tokens if prompt is None else prompt, output_tokens=output
    )


# --- Caps ---

NEAR: Final = (0.95, 0.75)
"""The shares of a cap from which on the client gets a warning."""


class Spent(msgspec.Struct, frozen=True):
    """Nano-dollars that a provider, or the requests with a token, have cost."""

    day: int = 0
    month: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.day + other.day, self.month + other.month)


class Limit(msgspec.Struct, frozen=True):
    """One cap, and how far it is used up; money in nano-dollars."""

    provider: str
    """The provider that it concerns; empty where it is a token's that concerns all alike."""
    period: str
    """`day` or `month`."""
    cap: int
    spent: int
    until: float
    """When the period ends, in Unix seconds."""
    reserved: int = 0
    """What requests in flight may cost."""
    token: str = ""
    """The label of the token whose cap it is; empty for a cap of the provider itself."""

    @property
    def title(self) -> str:
        """What has the cap, for a person."""
        return f"token {self.token}" if self.token else self.provider

    @property
    def is_reached(self) -> bool:
        """Whether the provider is skipped: even without a further request it may be reached."""
        return self.spent + self.reserved >= self.cap

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(0, self.cap - self.spent)

    @property
    def share(self) -> float:
        """How much of it is spent: 1 is all."""
        return self.spent / self.cap if self.cap else 1.0

    @property
    def sentence(self) -> str:
        """How far the cap is reached, for a person: by what is spent, or by what others reserve."""
        cap = f"cap of {dollars(self.cap)} a {self.period}"
        text = f"{dollars(self.spent)} of its {cap} has been spent"
        if self.left:
            return f"{text}, and requests in flight may cost the rest"
        return text

    @property
    def threshold(self) -> float | None:
        """The share that calls for a warning; `None` if the cap is far."""
        return next((share for share in NEAR if self.share >= share), None)


def token_account(label: str) -> str:
    """The name under which the ledger sums up a token; no provider can have it."""
    return f"token:{label}"


def limits(
    name: str,
    cap: Cap,
    spent: Spent,
    ends: tuple[float, float],
    reserved: int = 0,
    token: str = "",
) -> tuple[Limit, ...]:
    """The caps of a provider, or those of a token at it; `ends` are of the day and of the month."""
    rows = (("day", cap.day, spent.day, ends[0]), ("month", cap.month, spent.month, ends[1]))
    return tuple(
        Limit(name, period, round(most * NANO), used, end, reserved, token)
        for period, most, used, end in rows
        if most is not None
    )


def binding(found: tuple[Limit, ...]) -> Limit | None:
    """The reached cap that ends last; `None` if none is reached."""
    reached = [limit for limit in found if limit.is_reached]
    return max(reached, key=lambda limit: limit.until) if reached else None


class Reservations:
    """What requests in flight may cost, by provider and by token.

    It is learned from what the last answers of the same model did cost. Before some are known, the
    whole of an estimate is reserved, which is an upper one.
    """

    _REMEMBERED: Final = 16
    _LEAST_KNOWN: Final = 4
    _MOST_MODELS: Final = 64
    """The client chooses the names of models."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._ratios: dict[tuple[str, str], deque[float]] = {}

    def held(self, account: str) -> int:
        """The sum of the reservations of a provider or `token_account` in nano-dollars."""
        return self._held.get(account, 0)

    def reserve(self, provider: str, model: str, estimate: int, *also: str) -> int:
        """Reserve for a request, in other accounts `also`; returns how much, for `release`."""
        ratios = self._ratios.get((provider, model), ())
        ratio = max(ratios, default=1.0)
        amount = round(estimate * (ratio if len(ratios) >= self._LEAST_KNOWN else max(ratio, 1.0)))
        for account in (provider, *also):
            self._held[account] = self.held(account) + amount
        return amount

    def release(self, provider: str, amount: int, *also: str) -> None:
        """The request is over."""
        for account in (provider, *also):
            self._held[account] = max(0, self.held(account) - amount)

    def learn(self, provider: str, model: str, estimate: int, actual: int) -> None:
        """Compare an estimate with what the answer did cost; a cache makes it cheaper."""
        if estimate > 0:
            key = provider, model
            ratios = self._ratios.pop(key, None) or deque(maxlen=self._REMEMBERED)
            ratios.append(max(0.01, actual / estimate))
            # The one that has learned last is at the end.
            self._ratios[key] = ratios
            if len(self._ratios) > self._MOST_MODELS:
                del self._ratios[next(iter(self._ratios))]


def estimate_cost(
    prompt_tokens: int, max_tokens: int, work: Work, provider: Provider, table: PriceTable
) -> int:
    """What a request may cost in nano-dollars, before it is sent; 0 if no price is known.

    That is with a long answer, and a prompt that enters a cache.
    """
    answer = min(max(max_tokens, LEAST_ANSWER), MOST_ANSWER)
    prompts = (
        Usage(prompt_tokens, answer),
        Usage(0, answer, cache_write=prompt_tokens),
        Usage(0, answer, cache_write=prompt_tokens, cache_write_1h=prompt_tokens),
    )
    works = (msgspec.structs.replace(work, usage=usage) for usage in prompts)
    return max(cost(each, provider, table) or 0 for each in works)


def dollars(nano: int) -> str:
    """An amount for a person: `$12.30`, `$0.42`, `$0.0031`, `$0.00`."""
    amount = nano / NANO
    if 0 < abs(amount) < 0.01:
        return f"${amount:.4f}" if abs(amount) >= 0.0001 else "<$0.0001"
    return f"${amount:,.2f}"
