"""The running server: asynchronous I/O around the decisions of `policy`.

| module | does | with |
|---|---|---|
| `serve` | runs the process | `listening`, `process`, `services` |
| `gate`, `routes` | admit a request and find its endpoint | `context`, `endpoint` |
| `messages` | answers `/v1/messages` | `chain`, `client`, `health`, `client_credentials` |
| `side_endpoints`, `metrics` | answer everything else | |
| `failover_driver` | makes the attempts of one request | `repairs`, `credentials` |
| `attempt`, `stream` | make one attempt, and relay its stream | `response` |
| `upstream` | reaches the network | `outgoing`, `trust` |
| `breakers`, `live_config` | hold what others may change | `refresher`, `serial_executor` |
| `record` | writes the log | |
"""

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
