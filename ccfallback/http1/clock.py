"""A clock that goes on while the machine sleeps.

The loop's clock stops on Linux and macOS when a laptop is closed. A connection that was idle a
second before would look as fresh afterwards, although its other end is gone.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final


def _choose() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        # There, `time.monotonic` is another clock than this one.
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


clock: Final = _choose()
"""Seconds since some moment, sleep included."""
