"""A little of the fuzzing, the same each time: the script runs for as long as one likes."""

import random

import pytest

from tests.fuzz.__main__ import SEEDS, mutated
from tests.fuzz.targets import TARGETS


def test_every_target_has_its_seeds() -> None:
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_promise(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)
    chance = random.Random(1)
    for _ in range(100):
        TARGETS[name](mutated(chance, SEEDS[name]))
