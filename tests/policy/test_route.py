"""The order in which the providers of a request are tried."""

from collections.abc import Collection, Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import KeySource, Provider
from ccfallback.policy.affinity import Cause, Decision, Return, Session, Stay, decide
from ccfallback.policy.route import arrange
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


NAMES = ("primary", "one", "two")
NOW = 1_000_000.0
TTL = 300.0


def labels(order: Sequence[Provider]) -> list[str]:
    return [each.label for each in order]


def test_without_anything_to_decide_the_chain_is_the_order() -> None:
    assert arrange(CHAIN, {}) == CHAIN


def test_a_quota_puts_a_provider_last() -> None:
    order = arrange(CHAIN, {}, put_last={"primary"})
    assert labels(order) == ["one", "two key 1", "two key 2", "primary"]


def test_what_is_unavailable_keeps_its_place() -> None:
    # Breakers and caps decide again when its turn comes: until then it may be back.
    order = arrange(CHAIN, {"one": "spend-cap", "gone": "disabled"}, decide=lambda _, __: None)
    assert order == CHAIN


def test_a_session_that_stays_has_its_provider_first_with_all_keys() -> None:
    order = arrange(CHAIN, {}, decide=lambda _, __: Stay("two", "primary", 5.0, 0))
    assert labels(order) == ["two key 1", "two key 2", "primary", "one"]


def test_a_session_that_returns_takes_the_chain() -> None:
    decision = Return("primary", "one", Cause.PAUSE, 400.0)
    assert arrange(CHAIN, {}, decide=lambda _, __: decision) == CHAIN


def test_a_session_hears_why_a_provider_is_unavailable() -> None:
    heard: dict[str, str] = {}

    def listen(_: Sequence[str], reasons: Mapping[str, str]) -> None:
        heard.update(reasons)

    reasons = {"two key 1": "spend-cap", "two key 2": "cooling-down", "gone": "disabled"}
    arrange(CHAIN, reasons, decide=listen)
    assert heard["two"] in ("spend-cap", "cooling-down")
    assert heard["gone"] == "disabled"


@given(
    unavailable=st.dictionaries(LABELS, st.sampled_from(["spend-cap", "cooling-down"])),
    put_last=st.sets(LABELS),
    left=st.sampled_from(NAMES),
    age=st.floats(0, 2 * TTL),
    warm=st.none() | st.floats(0, 2 * TTL),
    size=st.integers(0, 2000),
)
def test_a_session_never_stays_with_a_provider_that_is_not_available(
    unavailable: dict[str, str],
    put_last: Collection[str],
    left: str,
    age: float,
    warm: float | None,
    size: int,
) -> None:
    served = {} if warm is None else {"primary": NOW - warm}
    session = Session(left, {**served, left: NOW - age}, 1000)
    found: list[Decision | None] = []

    def choose(names: Sequence[str], reasons: Mapping[str, str]) -> Decision | None:
        never = {*unavailable, *put_last}
        assert set(names) == {each.name for each in CHAIN if each.label not in never}
        found.append(
            decide(*(session, names, NOW), size=size, compacted=b"", ttl=TTL, unavailable=reasons)
        )
        return found[0]

    order = arrange(CHAIN, unavailable, put_last=put_last, decide=choose)
    assert sorted(labels(order)) == sorted(map(str, [each.label for each in CHAIN]))
    places = [each.label in put_last for each in order]
    assert places == sorted(places)
    (decision,) = found
    kept = [each for each in order if each.label not in put_last]
    keys = [each.label for each in CHAIN if each.name == left]
    can_stay = any(each not in unavailable and each not in put_last for each in keys)
    if isinstance(decision, Stay):
        assert can_stay
        assert kept[0].name == decision.provider == left
    else:
        assert labels(kept) == [each.label for each in CHAIN if each.label not in put_last]
    if isinstance(decision, Return) and decision.cause is Cause.UNAVAILABLE:
        assert not can_stay
        assert decision.why in {unavailable[each] for each in keys if each in unavailable} | {""}
        assert decision.why or not any(each in unavailable for each in keys)
