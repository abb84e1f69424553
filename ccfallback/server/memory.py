"""Spend no time on memory that will be needed again, or that will never be given up.

A request of 1 MB is copied a few times on its way. The C library gives blocks of that size back
to the system at once, and each new one costs a page fault for every 4 kB: half of the CPU that
such a request takes. With these two settings it keeps what it will need again in a moment.
"""

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Names of mallopt(3), from glibc's malloc.h."""

KEPT: Final = 8 * 1024 * 1024
"""Bytes that stay with the process when nobody uses them."""

LARGE: Final = 4 * 1024 * 1024
"""Blocks above this come from the system and go back to it."""


OBJECTS: Final = 10_000
"""So many more objects than before let the collector look at the new ones."""


def keep_freed_blocks() -> bool:
    """Whether the C library could be asked to; others than glibc have no such switch."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGE) and mallopt(M_TRIM_THRESHOLD, KEPT))
    return False


def set_start_aside() -> None:
    """Let the collector never again look at what was loaded at the start.

    It would find none of it to be garbage, and stop every stream for as long as it takes to look.
    A request leaves no garbage that only the collector would find, so it need not look often.
    """
    gc.collect()
    _give_back()
    gc.freeze()
    gc.set_threshold(OBJECTS)


def _give_back() -> None:
    """Return to the system what only the start has needed; where the C library can."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
