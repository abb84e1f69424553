"""HTTP/1.1 over asyncio and httptools; it knows nothing of this product.

A client: `ConnectionPool.send` takes a `Request` to an `Origin` and returns a `Response`, or raises
an `HTTPError`. A `Server` accepts connections; a `ServerProtocol` for each of them lets
an ASGI application answer. `Deadline` limits single waits and raises
`DeadlineExceeded`; many waits share its one timer.

No limit of a head, of framing or of time can be switched off.
"""

from ccfallback.http1.deadline import Deadline, DeadlineExceeded, Timer
from ccfallback.http1.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HTTPError,
    LocalProtocolError,
    RemoteDisconnected,
    RemoteProtocolError,
    TrustUnavailable,
)
from ccfallback.http1.listener import Server
from ccfallback.http1.pool import ConnectionPool, Response
from ccfallback.http1.request import FixedHeaders, Headers, Origin, Request
from ccfallback.http1.request_cycle import App, Message, Receive, Scope, Send
from ccfallback.http1.server import ARRIVAL_KEY, CONNECTION_KEY, ConnectionLimit, ServerProtocol
from ccfallback.http1.trust import Trust

__all__ = [
    "ARRIVAL_KEY", "CONNECTION_KEY", "App", "ConnectError", "ConnectTimeout", "ConnectionLimit",
    "ConnectionLost", "ConnectionPool", "Deadline", "DeadlineExceeded", "FixedHeaders", "HTTPError",
    "Headers", "LocalProtocolError", "Message", "Origin", "Receive", "RemoteDisconnected",
    "RemoteProtocolError", "Request", "Response", "Scope", "Send", "Server", "ServerProtocol",
    "Timer", "Trust", "TrustUnavailable",
]  # fmt: skip
