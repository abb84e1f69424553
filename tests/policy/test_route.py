"""The order in which the providers of a request are tried."""

from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import KeySource, Provider
from ccfallback.policy.affinity import Cause, Decision, Return, Stay
from ccfallback.policy.route import Order, arrange
from ccfallback.redact import Secret

KEYS = KeySource(literals=(Secret("a"), Secret("b")))
CHAIN = tuple(
    account
    for provider in (
        Provider(name="primary", base_url="https://p.test", primary=True),
        Provider(name="one", base_url="https://one.test"),
        Provider(name="two", base_url="https://two.test", key=KEYS),
    )
    for account in provider.accounts
)
LABELS = st.sampled_from([each.label for each in CHAIN])


def labels(order: Order) -> list[str]:
    return [each.label for each in order.providers]


def test_without_anything_to_decide_the_chain_is_the_order() -> None:
    order = arrange(CHAIN, lambda _: True)
    assert order.providers is CHAIN
    assert (order.reasons, order.decision) == ({}, None)


def test_a_quota_puts_a_provider_last() -> None:
    order = arrange(CHAIN, lambda _: True, put_last={"primary": "five_hour 98 %"})
    assert labels(order) == ["one", "two key 1", "two key 2", "primary"]
    assert order.reasons == {"primary": "five_hour 98 %"}


def test_what_may_not_be_tried_is_left_out() -> None:
    order = arrange(CHAIN, lambda _: True, left_out={"one": "cap"}, put_last={"one": "quota"})
    assert labels(order) == ["primary", "two key 1", "two key 2"]
    assert order.reasons == {"one": "cap"}


def test_a_session_that_stays_has_its_provider_first_with_all_keys() -> None:
    order = arrange(CHAIN, lambda _: True, decide=lambda _: Stay("two", "primary", 5.0, 0))
    assert labels(order) == ["two key 1", "two key 2", "primary", "one"]
    assert order.reasons == {"primary": "cache", "one": "cache"}


def test_a_session_that_returns_takes_the_chain() -> None:
    decision = Return("primary", "one", Cause.PAUSE, 400.0)
    order = arrange(CHAIN, lambda _: True, decide=lambda _: decision)
    assert (order.providers, order.decision) == (CHAIN, decision)


@given(
    left_out=st.sets(LABELS),
    put_last=st.sets(LABELS),
    closed=st.sets(LABELS),
)
def test_a_session_chooses_among_what_may_be_tried(
    left_out: Collection[str], put_last: Collection[str], closed: Collection[str]
) -> None:
    offered: list[str] = []

    def choose(names: Sequence[str]) -> Decision | None:
        offered.extend(names)
        return Stay(names[-1], names[0], 1.0, 0) if len(names) > 1 else None

    order = arrange(
        CHAIN,
        lambda each: each.label not in closed,
        left_out=dict.fromkeys(left_out, "out"),
        put_last=dict.fromkeys(put_last, "last"),
        decide=choose,
    )
    never_first = {*left_out, *put_last, *closed}
    may_be_first = {each.name for each in CHAIN if each.label not in never_first}
    assert set(offered) == may_be_first
    assert sorted(labels(order)) == sorted(e.label for e in CHAIN if e.label not in left_out)
    assert {*left_out, *put_last} <= set(order.reasons)
    places = [each.label in put_last for each in order.providers]
    assert places == sorted(places)
