"""Measures whether work grows in proportion to its input."""

import gc
import sys
from collections.abc import Callable
from time import process_time

_FACTOR = 4
_MOST = 9.0
"""Four times the input is four times the work, and sixteen times if it grows with the square."""
_ENOUGH = 0.02 if sys.platform == "win32" else 0.005
"""Seconds; a shorter time measures nothing. Windows counts CPU time in steps of 0.016 s."""


def grows_in_proportion(work: Callable[[int], object], size: int) -> None:
    """Fail if `work` for an input of four times the size is much more than four times the work.

    `size` grows until the time can be measured. Only the ratio of two times in one run counts.
    """
    while (before := _time(work, size)) < _ENOUGH and size < 1 << 21:
        size *= 2
    ratios = []
    for _ in range(3):
        ratios.append(_time(work, size * _FACTOR) / max(before, 1e-9))
        if ratios[-1] < _MOST:
            return
        before = _time(work, size)
    raise AssertionError(f"{_FACTOR} times the input is {min(ratios):.1f} times the work")


def _time(work: Callable[[int], object], size: int) -> float:
    times = []
    # The collector runs more often the more objects there are, whatever the code does.
    gc.disable()
    try:
        for _ in range(2):
            start = process_time()
            work(size)
            times.append(process_time() - start)
    finally:
        gc.enable()
    return min(times)
