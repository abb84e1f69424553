"""The wait before a retry."""

from collections.abc import Callable
from typing import Final

BACKOFF_BASE: Final = 0.5
BACKOFF_MAX: Final = 8.0


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """The seconds to wait before retry number `attempt` (from 1).

    The wait doubles up to 8 seconds; half of it is jitter. `random` returns a number from 0 to 1.
    """
    ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** (attempt - 1))
    return float(ceiling * (0.5 + 0.5 * random()))
