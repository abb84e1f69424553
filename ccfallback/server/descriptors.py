"""The limit of open files: raised at the start, and shared between clients and upstreams.

Many systems start a process with 1,024, which 500 open streams use up. What a client takes and
what an upstream takes count alike, so that clients get half: the rest is for upstreams.
"""

from typing import Final

WANTED: Final = (65_536, 10_240)
"""Open files to ask for, the best first. macOS allows no more than the second number."""

RESERVE: Final = 64
"""Open files for the configuration, the state, the log and the event loop."""


def raise_limit() -> int | None:
    """Raise the limit of this process, and return it; `None` where the system has none."""
    try:
        import resource
    except ImportError:
        return None
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in WANTED:
        reachable = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        if limit == resource.RLIM_INFINITY or limit >= reachable:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, most))
        except (OSError, ValueError):
            continue
        limit = reachable
        break
    return WANTED[0] if limit == resource.RLIM_INFINITY else limit


def most_clients(limit: int | None) -> int:
    """How many connections of clients leave enough for the upstreams that they need."""
    return max(((limit or WANTED[0]) - RESERVE) // 2, 1)
