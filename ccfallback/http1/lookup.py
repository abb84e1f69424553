"""Look up host names, each on a thread of its own.

A lookup hangs for as long as its name servers are silent, and nothing can end it. uvloop has four
threads for all lookups, and asyncio shares those of its default executor with other work: with a
few lookups that hang, no other name is found. Here a lookup delays only requests for the same
name, and its thread is abandoned when the process ends.
"""

import asyncio
import errno
import socket
import threading
from concurrent.futures import Future
from time import monotonic
from typing import Any, Final

Address = tuple[int, Any]
"""A family, and an address of that family."""

SHARED_SECONDS: Final = 2.0
"""For how long others join a lookup. After that they begin another: the network may be back, and
the first one may still wait for an answer that was lost."""

MOST_THREADS: Final = 4
"""Threads for one name; from then on all join the last of them."""

HOPELESS_SECONDS: Final = 30.0
"""A lookup whose last thread began so long ago will not end: another takes its place."""


class NameLookups:
    """Looks up names for any number of event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], _Lookup] = {}

    async def find(self, host: str, port: int) -> list[Address]:
        """The addresses of a host. Raises `OSError`, mostly `socket.gaierror`."""
        found = await asyncio.wrap_future(self._join(host, port))
        if isinstance(found, OSError):
            # All that wait get the same one. Raised itself, it would refer to all of their frames.
            raise type(found)(*found.args)
        return found

    def _join(self, host: str, port: int) -> "Future[_Found]":
        now = monotonic()
        with self._lock:
            lookup = self._running.get((host, port))
            if lookup is None or now - lookup.began > HOPELESS_SECONDS:
                lookup = _Lookup()
            elif now - lookup.began < SHARED_SECONDS or lookup.threads == MOST_THREADS:
                return lookup.found
            number = lookup.threads + 1
            thread = threading.Thread(
                target=self._run, args=(host, port, lookup, number), name="lookup", daemon=True
            )
            try:
                # It does not get the lock before this lookup is among the running ones.
                thread.start()
            except RuntimeError as error:
                if lookup.threads:
                    return lookup.found
                raise OSError(errno.ENOMEM, "no thread for a name lookup") from error
            lookup.began, lookup.threads = now, number
            self._running[host, port] = lookup
            return lookup.found

    def _run(self, host: str, port: int, lookup: "_Lookup", number: int) -> None:
        found = _look_up(host, port)
        with self._lock:
            is_late = lookup.found.done()
            # While a later thread runs, an error of this one is out of date.
            if is_late or (isinstance(found, OSError) and number < lookup.threads):
                return
            if self._running.get((host, port)) is lookup:
                del self._running[host, port]
            lookup.found.set_result(found)


_Found = list[Address] | OSError


class _Lookup:
    """The lookup of one name: a later thread joins it if the first one takes long."""

    __slots__ = ("began", "found", "threads")

    def __init__(self) -> None:
        self.found: Future[_Found] = Future()
        # From now on it can't be cancelled: one that waits may leave, others wait on.
        self.found.set_running_or_notify_cancel()
        self.threads = 0
        self.began = 0.0
        """When the last of its threads began."""


def _look_up(host: str, port: int) -> _Found:
    """Never raises: those that wait would wait for ever."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        return socket.gaierror(socket.EAI_NONAME, f"not a valid host name: {error}")
    except OSError as error:
        return error
    except Exception as error:
        return socket.gaierror(socket.EAI_FAIL, f"the lookup failed: {error!r}")
    return [(family, address) for family, _, _, _, address in found]
