"""The running server: asynchronous I/O around the decisions of `policy`."""

import sys


def _import_httpx_alone() -> None:
    """Import httpx without its command line.

    Where rich and click happen to be installed, it imports both, and pygments, for a program of
    its own: a fifth of the time to the first answer, and megabytes for as long as we run. It does
    without when one of them can't be imported.
    """
    missing = "pygments.lexers"
    if "httpx" in sys.modules or missing in sys.modules:
        return
    sys.modules[missing] = None  # type: ignore[assignment]  # how Python marks what is not there
    try:
        import httpx  # noqa: F401  # to have it loaded this way
    finally:
        del sys.modules[missing]


_import_httpx_alone()
