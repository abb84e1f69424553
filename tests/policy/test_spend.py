"""What answers cost, against invoices that were computed by hand, and the arithmetic of caps."""

import random
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from ccfallback.config import prices
from ccfallback.config.model import Aws, Cap, Google, Prices, Provider
from ccfallback.messages.tokens import Usage
from ccfallback.policy.spend import (
    NANO,
    Limit,
    PriceTable,
    Reservations,
    Spent,
    Work,
    binding,
    complete_usage,
    cost,
    dollars,
    estimate_cost,
    limits,
    percent_of_place,
    price_name,
)

TABLE = PriceTable.read(prices.load())
ANTHROPIC = Provider(name="anthropic-primary", base_url="https://api.anthropic.com", primary=True)
ROUTER = Provider(name="router", base_url="https://openrouter.ai/api/v1", format="openai")
BEDROCK = Provider(
    name="bedrock", base_url="https://bedrock-runtime.eu-central-1.amazonaws.com", format="bedrock"
)
GOV = replace(BEDROCK, base_url="https://bedrock-runtime.us-gov-west-1.amazonaws.com")
MANTLE = Provider(name="mantle", base_url="https://bedrock-mantle.us-east-1.api.aws/anthropic")
VERTEX = Provider(name="vertex", base_url="https://aiplatform.googleapis.com", format="vertex")
BELGIUM = replace(VERTEX, google=Google(location="europe-west1"))
OWN = replace(ROUTER, prices=Prices(input=2.0, output=6.0, cache_read=0.2, cache_write=2.5))
TWO_PRICES = replace(ROUTER, prices=Prices(input=2.0, output=6.0))
FREE = replace(ROUTER, prices=Prices(input=0.0, output=0.0))

# Input, output, read, written for 5 minutes and for an hour, searches.
Counts = tuple[int, int, int, int, int, int]

INVOICES: list[tuple[Provider, str, Counts, dict[str, Any], str]] = [
    (ANTHROPIC, "claude-fable-5", (1000, 2000, 100_000, 10_000, 0, 0), {}, "0.335"),
    (ANTHROPIC, "claude-fable-5-1", (1000, 2000, 100_000, 10_000, 0, 0), {}, "0.26"),
    (ANTHROPIC, "claude-fable-5-2", (1000, 2000, 0, 0, 10_000, 0), {}, "0.248"),
    (ANTHROPIC, "claude-opus-4-5-20251101", (10, 400, 0, 0, 0, 0), {}, "0.01005"),
    (ANTHROPIC, "claude-opus-4-6", (0, 0, 150_000, 0, 0, 0), {}, "0.075"),
    (ANTHROPIC, "claude-opus-4-8", (0, 0, 0, 150_000, 0, 0), {}, "0.9375"),
    (ANTHROPIC, "claude-opus-5", (0, 0, 0, 0, 150_000, 0), {}, "1.5"),
    (ANTHROPIC, "claude-opus-5[1m]", (800_000, 1000, 0, 0, 0, 0), {}, "4.025"),
    (ANTHROPIC, "claude-opus-5-5", (5000, 1000, 150_000, 2000, 3000, 0), {}, "0.104"),
    (ANTHROPIC, "claude-opus-4-1-20250805", (1000, 100, 10_000, 0, 0, 0), {}, "0.0375"),
    (ANTHROPIC, "claude-sonnet-4-5", (1000, 100, 10_000, 4000, 0, 3), {}, "0.0525"),
    (ANTHROPIC, "claude-sonnet-4-6", (1000, 100, 0, 0, 5000, 0), {}, "0.0345"),
    (ANTHROPIC, "claude-sonnet-5", (2000, 500, 20_000, 0, 0, 0), {}, "0.013"),
    (ANTHROPIC, "claude-sonnet-5-5", (0, 0, 150_000, 0, 0, 0), {}, "0.015"),
    (ANTHROPIC, "claude-haiku-4-5-20251001", (5000, 700, 30_000, 8000, 0, 0), {}, "0.0215"),
    (ANTHROPIC, "claude-haiku-5-5", (60_000, 1000, 30_000, 10_000, 0, 0), {}, "0.00805"),
    (ANTHROPIC, "claude-haiku-5-5", (60_000, 1000, 30_000, 10_001, 0, 0), {}, "0.040250625"),
    (ANTHROPIC, "claude-opus-5", (1000, 1000, 0, 0, 0, 0), {"is_fast": True}, "0.06"),
    (ANTHROPIC, "claude-opus-5", (1000, 1000, 0, 0, 0, 0), {"region": "us"}, "0.033"),
    (ANTHROPIC, "claude-opus-5", (1000, 1000, 0, 0, 0, 2), {"region": "global"}, "0.05"),
    (BEDROCK, "eu.anthropic.claude-opus-4-5-20251101-v1:0", (1000, 1000, 0, 0, 0, 0), {}, "0.033"),
    (BEDROCK, "global.anthropic.claude-opus-5-5", (1000, 1000, 0, 0, 0, 0), {}, "0.024"),
    (BEDROCK, "us.anthropic.claude-opus-4-1-20250805-v1:0", (1000, 1000, 0, 0, 0, 0), {}, "0.09"),
    (
        GOV,
        "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0",
        (1000, 1000, 0, 0, 0, 0),
        {},
        "0.0216",
    ),
    (MANTLE, "anthropic.claude-sonnet-5-5", (0, 0, 100_000, 0, 0, 0), {}, "0.011"),
    (VERTEX, "claude-haiku-4-5@20251001", (1000, 1000, 0, 0, 0, 0), {}, "0.006"),
    (BELGIUM, "claude-haiku-4-5@20251001", (1000, 1000, 0, 0, 0, 0), {}, "0.0066"),
    (ROUTER, "anthropic/claude-sonnet-4.5", (1000, 1000, 0, 0, 0, 0), {}, "0.018"),
    (ROUTER, "anthropic/claude-4.5-sonnet", (1000, 1000, 0, 0, 0, 0), {"is_fast": True}, "0.018"),
    (ROUTER, "openai/gpt-5.6", (72_000, 1000, 200_000, 0, 0, 0), {}, "0.388"),
    (ROUTER, "gpt-5.6-2026-08-14", (72_001, 1000, 200_000, 0, 0, 0), {}, "0.766008"),
    (OWN, "some/model", (1000, 1000, 1000, 1000, 1000, 0), {}, "0.0147"),
    (OWN, "anthropic/claude-opus-5", (1000, 1000, 0, 0, 0, 0), {}, "0.008"),
    (TWO_PRICES, "some/model", (1000, 1000, 1000, 1000, 0, 0), {}, "0.012"),
    (TWO_PRICES, "anthropic/claude-opus-5", (1000, 1000, 1000, 0, 0, 0), {}, "0.0085"),
    (FREE, "some/model", (1000, 1000, 1000, 1000, 1000, 0), {}, "0"),
]


def usage(counts: Counts) -> Usage:
    """The counts of an answer, as its usage object would give them."""
    plain, output, read, minutes, hour, searches = counts
    found = Usage()
    found.take(
        {
            "input_tokens": plain,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": minutes + hour,
            "cache_creation": {
                "ephemeral_5m_input_tokens": minutes,
                "ephemeral_1h_input_tokens": hour,
            },
            "server_tool_use": {"web_search_requests": searches},
        }
    )
    return found


@pytest.mark.parametrize(("provider", "model", "counts", "more", "invoice"), INVOICES)
def test_an_answer_costs_what_the_invoice_says(
    provider: Provider, model: str, counts: Counts, more: dict[str, Any], invoice: str
) -> None:
    found = cost(Work(usage(counts), model, **more), provider, TABLE)
    assert found is not None
    assert Decimal(found) / NANO == Decimal(invoice)


@pytest.mark.parametrize(
    ("provider", "model", "counts"),
    [
        (ROUTER, "deepseek/deepseek-v4", (1000, 10, 0, 0, 0, 0)),
        (ROUTER, "openai/gpt-5.6-mini", (1000, 10, 0, 0, 0, 0)),
        (ROUTER, "openai/gpt-5.61", (1000, 10, 0, 0, 0, 0)),
        (ROUTER, "anthropic/claude-opus-9", (1000, 10, 0, 0, 0, 0)),
        (ROUTER, "", (1000, 10, 0, 0, 0, 0)),
        (ANTHROPIC, "claude-fable-5-2", (1000, 10, 50, 0, 0, 0)),
        (replace(ROUTER, prices=Prices(output=3.0)), "some/model", (1000, 10, 0, 0, 0, 0)),
        (replace(ROUTER, prices=Prices(input=3.0)), "some/model", (1000, 10, 0, 0, 0, 0)),
    ],
)
def test_an_unknown_price_is_unknown(provider: Provider, model: str, counts: Counts) -> None:
    assert cost(Work(usage(counts), model), provider, TABLE) is None


def test_an_answer_without_counts_has_no_cost() -> None:
    assert cost(Work(Usage(), "claude-opus-5"), ANTHROPIC, TABLE) is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "claude-opus-4-5"),
        ("claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("anthropic/claude-opus-4.5", "claude-opus-4-5"),
        ("anthropic/claude-4.5-opus-20251101", "claude-opus-4-5"),
        ("Claude-Opus-4-5[1m]", "claude-opus-4-5"),
        ("anthropic.claude-opus-5", "claude-opus-5-0"),
        (
            "arn:aws:bedrock:eu-central-1:1:inference-profile/eu.anthropic.claude-sonnet-5-5",
            "claude-sonnet-5-5",
        ),
        ("openai/gpt-5.6", "gpt-5.6"),
        ("gpt-5.6-2026-08-14", "gpt-5.6"),
        ("gpt-5.6-mini", "gpt-5.6-mini"),
        ("gpt-5.6-mini-20260814", "gpt-5.6-mini"),
    ],
)
def test_every_form_of_a_name_is_one_row(model: str, name: str) -> None:
    assert price_name(model) == name


def test_every_row_of_the_table_has_a_name_that_is_found() -> None:
    assert TABLE.date == "2026-11-10"
    for name, price in TABLE.models.items():
        assert TABLE.find(name) is price


def test_what_the_upstream_says_of_speed_and_region_has_priority() -> None:
    found = usage((1000, 1000, 0, 0, 0, 0))
    found.take({"speed": "standard", "inference_geo": "us"})
    asked = Work(found, "claude-opus-5", is_fast=True)
    assert cost(asked, ANTHROPIC, TABLE) == 33_000_000


def test_the_sum_of_many_costs_is_the_cost_of_their_sum() -> None:
    random.seed(14)
    rows = [row for row in TABLE.models if row != "claude-fable-5-2"]
    total, invoice = 0, Decimal(0)
    for _ in range(10_000):
        model = random.choice(rows)
        plain, output, read, minutes, hour = (random.randrange(60_000) for _ in range(5))
        counts = (plain, output, read, minutes, hour, random.randrange(3))
        found = cost(Work(usage(counts), model), ANTHROPIC, TABLE)
        assert found is not None
        total += found
        price = next(r for r in prices.load()["prices"] if model in r["models"])
        if (above := price.get("above")) and sum(counts) - counts[1] - counts[5] > above["prompt"]:
            price = above
        names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        invoice += Decimal(counts[5]) / 100
        invoice += sum(
            Decimal(str(price[name])) * count / 1_000_000
            for name, count in zip(names, counts, strict=False)
        )
    # Each cost is rounded to a nano-dollar, and only that.
    assert abs(Decimal(total) / NANO - invoice) <= Decimal(10_000) / 2 / NANO


# --- Estimates ---


def test_a_torn_answer_has_its_whole_prompt_and_the_output_so_far() -> None:
    start = Usage(input_tokens=70, output_tokens=1, cache_read=900)
    torn = complete_usage(start, prompt_tokens=5000, written=4001, is_whole=False)
    assert torn == Usage(input_tokens=70, output_tokens=1001, cache_read=900)
    nothing = complete_usage(Usage(), prompt_tokens=5000, written=0, is_whole=False)
    assert nothing == Usage(input_tokens=5000, output_tokens=0)


def test_the_counts_of_a_whole_answer_are_believed() -> None:
    counted = Usage(input_tokens=70, output_tokens=12)
    assert complete_usage(counted, prompt_tokens=5, written=9999, is_whole=True) == counted


# --- Caps ---


def test_a_cap_is_reached_by_what_is_spent_and_reserved() -> None:
    cap = Cap(day=5.0, month=60.0)
    ends = (100.0, 900.0)
    assert binding(limits("p", cap, Spent(4 * NANO, 59 * NANO), ends)) is None
    day = binding(limits("p", cap, Spent(5 * NANO, 59 * NANO), ends))
    assert day is not None
    assert (day.period, day.until, day.left) == ("day", 100.0, 0)
    month = binding(limits("p", cap, Spent(5 * NANO, 60 * NANO), ends))
    assert month is not None
    assert (month.period, month.until) == ("month", 900.0)
    assert binding(limits("p", cap, Spent(4 * NANO, 4 * NANO), ends, NANO)) is not None


def test_a_cap_of_zero_is_always_reached() -> None:
    assert binding(limits("p", Cap(day=0.0), Spent(), (1.0, 2.0))) is not None


@pytest.mark.parametrize(
    ("spent", "threshold"), [(3.7, None), (3.75, 0.75), (4.7, 0.75), (4.75, 0.95), (5.0, 0.95)]
)
def test_a_cap_that_is_near_calls_for_a_warning(spent: float, threshold: float | None) -> None:
    (limit,) = limits("p", Cap(day=5.0), Spent(round(spent * NANO)), (1.0, 2.0))
    assert limit.threshold == threshold


def test_forty_requests_at_once_exceed_a_cap_by_less_than_one_of_them() -> None:
    reservations = Reservations()
    spent, each, cap = 0, 300_000_000, NANO
    held: list[int] = []

    def is_reached() -> bool:
        limit = Limit("p", "day", cap, spent, 1.0, reservations.held("p"))
        return limit.is_reached

    while len(held) < 40 and not is_reached():
        held.append(reservations.reserve("p", "m", each))
    assert len(held) == 4
    for amount in held:
        spent += each
        reservations.release("p", amount)
    assert is_reached()
    assert cap <= spent < cap + each
    assert reservations.held("p") == 0


def test_reservations_follow_what_requests_do_cost() -> None:
    reservations = Reservations()
    assert reservations.reserve("p", "m", 100) == 100
    for _ in range(3):
        reservations.learn("p", "m", 100, 20)
        # Too few to trust.
        assert reservations.reserve("p", "m", 100) == 100
    reservations.learn("p", "m", 100, 20)
    assert reservations.reserve("p", "m", 100) == 20
    reservations.learn("p", "m", 100, 250)
    assert reservations.reserve("p", "m", 100) == 250
    assert reservations.reserve("p", "another model", 100) == 100
    assert reservations.reserve("other", "m", 100) == 100


@pytest.mark.parametrize(
    ("max_tokens", "answer"), [(0, 4096), (10, 4096), (20_000, 20_000), (128_000, 32_000)]
)
def test_the_first_estimate_of_a_model_is_an_upper_one(max_tokens: int, answer: int) -> None:
    guess = estimate_cost(10_000, max_tokens, Work(Usage(), "claude-opus-5"), ANTHROPIC, TABLE)
    # The prompt as it enters a cache for an hour, at $10, and the answer at $25 a million.
    assert guess == 10_000 * 10_000 + answer * 25_000
    for used in (Usage(10_000, answer), Usage(0, answer, 10_000), Usage(0, answer, 0, 10_000)):
        found = cost(Work(used, "claude-opus-5"), ANTHROPIC, TABLE)
        assert found is not None
        assert found <= guess
    unknown = Work(Usage(), "some/model")
    assert estimate_cost(10_000, max_tokens, unknown, ROUTER, TABLE) == 0
    assert estimate_cost(1000, max_tokens, unknown, OWN, TABLE) == 4_000_000 + answer * 6000


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (420_000_000, "$0.42"),
        (3_100_000, "$0.0031"),
        (10_000, "<$0.0001"),
        (1234 * NANO, "$1,234.00"),
    ],
)
def test_an_amount_is_written_as_a_person_reads_it(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_a_table_is_read_with_its_prices_for_long_prompts() -> None:
    rates = {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 1.25, "cache_write_1h": 2}
    above = {key: 2 * value for key, value in rates.items()}
    row = {"models": ["a", "b"], **rates, "above": {"prompt": 200_000, **above}}
    raw = {"date": "2026-11-28", "web_search": 10.0, "prices": [row]}
    table = PriceTable.read(raw)
    assert (table.date, table.web_search) == ("2026-11-28", NANO // 100)
    for name in ("a", "b"):
        price = table.find(name)
        assert price is not None
        assert price.rates_for(200_000).input == 1_000_000
        assert price.rates_for(200_001).input == 2_000_000


@pytest.mark.parametrize(
    ("provider", "model", "percent"),
    [
        (GOV, "anthropic.claude-opus-5", 120),
        (BEDROCK, "us-gov.anthropic.claude-opus-5", 120),
        (replace(MANTLE, aws=Aws(region="us-gov-west-1")), "anthropic.claude-opus-5", None),
        (replace(VERTEX, base_url="https://europe-west1-aiplatform.googleapis.com"),
         "claude-opus-5", 110),
        (replace(VERTEX, base_url="https://proxy.example.com"), "claude-opus-5", None),
    ],
)  # fmt: skip
def test_a_promised_region_costs_more(provider: Provider, model: str, percent: int | None) -> None:
    listed = percent_of_place(provider, model)
    assert listed == percent if percent else listed in (100, 110, 120)


@pytest.mark.parametrize("counts", [Usage(input_tokens=10), Usage(output_tokens=10)])
def test_without_one_of_its_counts_an_answer_has_no_cost(counts: Usage) -> None:
    assert cost(Work(counts, "claude-opus-4-5"), ANTHROPIC, TABLE) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Usage(input_tokens=7), (7, 25)),
        (Usage(output_tokens=9), (50, 9)),
        (Usage(), (50, 25)),
        (Usage(input_tokens=7, output_tokens=9), (7, 9)),
    ],
)
def test_what_a_whole_answer_does_not_count_is_estimated(
    given: Usage, expected: tuple[int, int]
) -> None:
    found = complete_usage(given, prompt_tokens=50, written=100, is_whole=True)
    assert (found.input_tokens, found.output_tokens) == expected


def test_what_is_left_of_a_cap() -> None:
    [limit] = limits("a", Cap(day=5.0), Spent(2 * NANO, 9 * NANO), (100.0, 200.0))
    assert limit.left == 3 * NANO
    assert replace(limit, spent=6 * NANO).left == 0
    spent = "$2.00 of its cap of $5.00 a day has been spent"
    assert limit.sentence == f"{spent}, and requests in flight may cost the rest"
    spent = "$6.00 of its cap of $5.00 a day has been spent"
    assert replace(limit, spent=6 * NANO).sentence == spent
    assert replace(limit, cap=0).share == 1.0


def test_of_many_models_the_one_that_has_learned_least_recently_is_forgotten() -> None:
    reservations = Reservations()

    def learn(model: str) -> None:
        for _ in range(4):
            reservations.learn("p", model, 100, 20)

    learn("old")
    learn("used")
    for number in range(reservations._MOST_MODELS - 2):
        learn(f"invented {number}")
    learn("used")
    learn("one more")
    learn("another")
    assert len(reservations._ratios) == reservations._MOST_MODELS
    assert reservations.reserve("p", "used", 100) == 20
    assert reservations.reserve("p", "old", 100) == 100


def test_an_estimate_of_nothing_teaches_nothing() -> None:
    held = Reservations()
    held.learn("a", "m", 0, 100)
    assert held.reserve("a", "m", 1000) == 1000
    held.learn("a", "m", 1, 2)
    assert held.reserve("a", "m", 1000) == 2000
