"""Settings of the memory allocator and the garbage collector that save a server time.

A request of 1 MB is copied a few times on its way. The C library returns blocks of that size to
the system at once, and each new one costs a page fault for every 4 kB: half of the CPU time that
such a request takes. With two settings, the library keeps the blocks for the next request.
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
"""Unused bytes that the process keeps."""

LARGE: Final = 4 * 1024 * 1024
"""Larger blocks come from the system and are returned to it."""

OBJECTS: Final = 10_000
"""New objects after which the collector runs."""


def keep_freed_blocks() -> bool:
    """Apply the settings, and return whether the C library has them; only glibc does."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGE) and mallopt(M_TRIM_THRESHOLD, KEPT))
    return False


def set_start_aside() -> None:
    """Exempt what was loaded at the start from garbage collection.

    The collector would find no garbage there, and hold up every stream while it looks. A request
    leaves no garbage that only the collector finds, so that it need not run often.
    """
    gc.collect()
    _trim()
    gc.freeze()
    gc.set_threshold(OBJECTS)


def _trim() -> None:
    """Return memory that only the start needed to the system, where the C library can."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
