"""What a provider's answers say about its timeouts, in virtual time."""

from collections.abc import Callable
from math import exp, inf, pi, sin
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import KeySource, Provider, Timeouts
from ccfallback.policy.latency import (
    LEAST_ANSWERS,
    SHORTEST,
    SLOT,
    USUAL_BYTES,
    WINDOW,
    Digest,
    Latencies,
)
from ccfallback.redact import Secret

NOW = 1_800_000_000.0
HOUR = 3600.0
CONFIGURED = Timeouts().first_byte


def digest(*seconds: float, body_bytes: int = 1000, now: float = NOW) -> Digest:
    """A digest of answers that took so long."""
    made = Digest()
    for each in seconds:
        made.note_answer(each, body_bytes, now)
    return made


def limit(of: Digest, now: float = NOW) -> float:
    learned = of.learned(now)
    return inf if learned is None else learned.first_byte


def test_too_few_answers_say_nothing() -> None:
    assert digest(*[1.0] * (LEAST_ANSWERS - 1)).learned(NOW) is None
    assert digest(*[1.0] * LEAST_ANSWERS).learned(NOW) is not None


def test_the_limit_is_a_multiple_of_the_slowest_answers_and_says_so() -> None:
    learned = digest(*[0.5] * 63, 2.3).learned(NOW)
    assert learned is not None
    assert 4 * 2.3 <= learned.first_byte <= 4 * 2.3 * 1.06
    assert learned.why.startswith("4 \N{MULTIPLICATION SIGN} its p99 of 2.")
    assert learned.why.endswith("over 64 answers")
    assert learned.body_bytes == USUAL_BYTES


def test_the_p99_leaves_out_one_answer_in_a_hundred() -> None:
    assert limit(digest(*[1.0] * 199, 20.0)) == SHORTEST
    assert limit(digest(*[1.0] * 197, *[20.0] * 3)) >= 80


def test_a_quick_provider_gets_the_shortest_limit() -> None:
    learned = digest(*[0.3] * 30).learned(NOW)
    assert learned is not None
    assert learned.first_byte == SHORTEST
    assert "the shortest limit, for its p99 of 0.3 s over 30 answers" in learned.why


def test_bodies_that_are_usually_long_are_part_of_the_limit() -> None:
    learned = digest(*[1.0] * 100, body_bytes=400_000).learned(NOW)
    assert learned is not None
    assert learned.body_bytes == pytest.approx(400_000)


def test_answers_of_yesterday_do_not_count() -> None:
    made = digest(*[1.0] * 50)
    assert made.learned(NOW + (WINDOW - 1) * SLOT) is not None
    assert made.learned(NOW + WINDOW * SLOT) is None


def test_a_clock_that_is_set_back_forgets_what_lies_in_the_future() -> None:
    made = digest(*[1.0] * 50)
    assert made.learned(NOW) is not None
    assert made.learned(NOW - SLOT) is None


def test_timeouts_raise_the_limit_until_a_slower_provider_gets_through() -> None:
    made, now, failures = digest(*[1.0] * 500), NOW, 0
    for _ in range(LEAST_ANSWERS + 10):
        now += 60
        if limit(made, now) < 20.0:
            made.note_late(limit(made, now))
            failures += 1
        else:
            made.note_answer(20.0, 1000, now)
    assert failures == 3
    assert limit(made, now) >= 80


def test_the_second_probe_of_a_provider_that_hangs_costs_at_most_ten_seconds() -> None:
    made = digest(*[1.0] * 100)
    made.note_late(limit(made))
    assert SHORTEST < limit(made) <= 10


def test_attempts_that_end_together_raise_the_limit_once() -> None:
    made = digest(*[1.0] * 100)
    for _ in range(10):
        made.note_late(SHORTEST)
    assert limit(made) == 1.25 * SHORTEST
    learned = made.learned(NOW)
    assert learned is not None
    assert learned.why.startswith("raised after a timeout")


def test_a_provider_that_is_quick_again_gets_the_old_limit_again() -> None:
    made = digest(*[1.0] * 100)
    made.note_late(SHORTEST)
    for _ in range(LEAST_ANSWERS):
        assert limit(made) > SHORTEST
        made.note_answer(1.0, 1000, NOW)
    assert limit(made) == SHORTEST


def test_after_an_unusually_slow_answer_the_next_attempt_has_no_limit_of_its_own() -> None:
    made = digest(*[1.0] * 100)
    assert limit(made) == SHORTEST
    made.note_answer(4.1, 1000, NOW)
    assert limit(made) == inf
    assert made.learned(NOW) is not None
    made.note_answer(1.0, 1000, NOW)
    assert limit(made) == SHORTEST


@pytest.mark.parametrize(("usual", "seconds"), [(0.1, 3.9), (4.0, 5.9)])
def test_an_answer_a_little_slower_than_usual_changes_no_limit(
    usual: float, seconds: float
) -> None:
    made = digest(*[usual] * 100)
    before = limit(made)
    made.note_answer(seconds, 1000, NOW)
    assert limit(made) == before


def test_a_limit_is_known_as_soon_as_enough_answers_have_come() -> None:
    made = Digest()
    for _ in range(LEAST_ANSWERS):
        assert made.learned(NOW) is None
        made.note_answer(1.0, 1000, NOW)
    assert made.learned(NOW) is not None


def test_the_gap_between_pings_is_learned_from_streams() -> None:
    made = Digest()
    for _ in range(LEAST_ANSWERS):
        assert made.learned(NOW) is None
        made.note_gap(5.0, NOW)
    learned = made.learned(NOW + 60)
    assert learned is not None
    assert learned.gap is not None
    assert 5.0 <= learned.gap <= 5.3
    assert learned.first_byte == inf


durations = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@given(
    st.lists(durations, min_size=LEAST_ANSWERS, max_size=300),
    st.lists(st.floats(0, 280), max_size=5),
)
def test_whatever_happens_the_limit_has_its_bounds(times: list[float], late: list[float]) -> None:
    made = digest(*times)
    for each in late:
        made.note_late(each)
    usual = sorted(times)[-1 - len(times) // 100]
    assert limit(made) >= max(SHORTEST, 4 * min(usual, HOUR))
    kept = msgspec.json.decode(msgspec.json.encode(made.to_json(NOW)))
    assert Digest.from_json(kept).learned(NOW) == made.learned(NOW)


@given(st.lists(st.tuples(durations, st.floats(0, 30 * 24 * HOUR)), max_size=500))
def test_a_digest_stays_small(answers: list[tuple[float, float]]) -> None:
    made = Digest()
    for seconds, after in answers:
        made.note_answer(seconds, 1, NOW + after)
    assert len(made.times) <= WINDOW
    assert all(len(buckets) <= 250 for buckets in made.times.values())


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"times": {"1": {"9999": 1}}, "gaps": {}, "meanBytes": 0, "raised": [0, 0, 0]},
        {"times": {"1": {"1": -1}}, "gaps": {}, "meanBytes": 0, "raised": [0, 0, 0]},
        {"times": {}, "gaps": {}, "meanBytes": "x", "raised": [0, 0, 0]},
        {"times": {}, "gaps": {}, "meanBytes": 0, "raised": [0]},
        {"times": 1, "gaps": {}, "meanBytes": 0, "raised": [0, 0, 0]},
    ],
)
def test_what_is_no_digest_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Digest.from_json(value)


ONE = Provider(name="one", base_url="https://one.test", key=KeySource(literal=Secret("a")))


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        (replace(ONE, retry=3), True),
        (replace(ONE, base_url="https://two.test"), False),
        (replace(ONE, key=KeySource(literal=Secret("b"))), False),
        (replace(ONE, model_mapping={"m": "other"}), False),
    ],
)
def test_answers_belong_to_a_server_a_key_and_a_model(changed: Provider, is_same: bool) -> None:
    latencies = Latencies()
    before = latencies.find(ONE, "m")
    assert latencies.find(ONE, "m") is before
    assert latencies.find(ONE, "n") is not before
    assert (latencies.find(changed, "m") is before) == is_same


def test_clients_that_make_up_models_fill_no_memory() -> None:
    latencies = Latencies()
    for number in range(500):
        latencies.find(ONE, str(number))
    assert len(latencies.digests) <= 64
    assert latencies.find(ONE, "499") is latencies.find(replace(ONE, retry=1), "499")


Shape = Callable[[float], float]
"""The median time to the first event, by the seconds since the start."""


def random_walk() -> Shape:
    random, drift, reached = Random(5), 0.0, 0.0

    def shape(at: float) -> float:
        nonlocal drift, reached
        while reached < at:
            reached += 60
            drift = min(1.6, max(-1.0, drift + random.gauss(0, 0.08)))
        return 1.5 * exp(drift)

    return shape


SHAPES: dict[str, Shape] = {
    "steady": lambda _: 2.0,
    "quick": lambda _: 0.8,
    "slow": lambda _: 4.0,
    "day and night": lambda at: 1.5 * (3 + 2 * sin(at / (24 * HOUR) * 2 * pi)),
    "each hour anew": lambda at: 1.5 * (2.5 + 1.5 * sin(at / HOUR * 2 * pi)),
    "ten times slower within two hours": lambda at: 1 + 9 * min(1, at % (24 * HOUR) / 7200),
    "five minutes slower each hour": lambda at: 9.0 if at % HOUR < 300 else 1.5,
    "a quarter of an hour slower three times a day": lambda at: 6.0 if at % 28800 < 900 else 1.5,
    "three times slower in half of the day": lambda at: 4.5 if (at // 43200) % 2 else 1.5,
    "random walk": random_walk(),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("every", [20.0, 90.0], ids=["busy", "calm"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_healthy_provider_fails_by_it_more_than_once_in_ten_thousand(
    shape: str, every: float
) -> None:
    assert failures_by_it(SHAPES[shape], every) <= 1.0


@pytest.mark.parametrize("every", [20.0, 60.0], ids=["busy", "calm"])
def test_a_sudden_jump_costs_about_its_first_request(every: float) -> None:
    # Ten times slower for a quarter of an hour each day.
    assert failures_by_it(lambda at: 15.0 if at % 86400 < 900 else 1.5, every) <= 4.0


def failures_by_it(shape: Shape, every: float) -> float:
    """Of 10,000 requests, those that the configured timeout would have let through."""
    random, made, now, failures, count = Random(1), Digest(), NOW, 0, 10_000
    for _ in range(count):
        now += random.expovariate(1 / every)
        seconds = shape(now - NOW) * exp(random.gauss(0, 0.5))
        if seconds > CONFIGURED:
            continue
        allowed = limit(made, now)
        if seconds > allowed:
            made.note_late(allowed)
            failures += 1
        else:
            made.note_answer(seconds, 80_000, now)
    return failures * 10_000 / count
