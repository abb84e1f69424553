"""The running server: asynchronous I/O around the decisions of `policy`."""

import sys


def _import_httpx_alone() -> None:
    """Import httpx without its command line.

    Where rich and click are installed, httpx imports both, and pygments, for a command that it
    comes with: a fifth of the time to the first answer, and megabytes of memory. When one of them
    cannot be imported, httpx leaves the command away.
    """
    missing = "pygments.lexers"
    if "httpx" in sys.modules or missing in sys.modules:
        return
    sys.modules[missing] = None  # type: ignore[assignment]  # how Python marks a missing module
    try:
        import httpx  # noqa: F401  # to have it loaded this way
    finally:
        del sys.modules[missing]


_import_httpx_alone()
