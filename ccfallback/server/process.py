"""Settings of the server's process: open files, memory allocator and garbage collector.

Many systems start a process with 1,024 open files, which 500 open streams use up. What a client
takes and what an upstream takes count alike, so that clients get half: the rest is for upstreams.

A request of 1 MB is copied a few times on its way. The C library returns blocks of that size to
the system at once, and each new one costs a page fault for every 4 kB: half of the CPU time that
such a request takes. With two settings, the library keeps the blocks for the next request.

The library also gives each thread memory of its own, of which none returns to the others. Here the
interpreter lets one thread run at a time, so that they may as well share: after an hour of mixed
faults, that is 2 MiB less.
"""

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Final

WANTED_FILES: Final = (65_536, 10_240)
"""Open files to ask for, the best first. macOS allows no more than the second number."""

RESERVED_FILES: Final = 64
"""Open files for the configuration, the state, the log and the event loop."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Names of mallopt(3), from glibc's malloc.h."""

KEPT: Final = 8 * 1024 * 1024
"""Unused bytes that the process keeps."""

LARGE: Final = 4 * 1024 * 1024
"""Larger blocks come from the system and are returned to it."""

OBJECTS: Final = 10_000
"""New objects after which the collector runs."""


def raise_file_limit() -> int | None:
    """Raise the limit of this process, and return it; `None` where the system has none."""
    try:
        import resource
    except ImportError:
        return None
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in WANTED_FILES:
        reachable = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        if limit == resource.RLIM_INFINITY or limit >= reachable:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, most))
        except (OSError, ValueError):
            continue
        limit = reachable
        break
    return WANTED_FILES[0] if limit == resource.RLIM_INFINITY else limit


def most_clients(limit: int | None) -> int:
    """How many connections of clients leave enough for the upstreams that they need."""
    return max(((limit or WANTED_FILES[0]) - RESERVED_FILES) // 2, 1)


def keep_freed_blocks() -> bool:
    """Apply the settings, and return whether the C library has them; only glibc does."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        settings = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: KEPT}
        return all(mallopt(name, value) for name, value in settings.items())
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
