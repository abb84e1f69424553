"""What can go wrong in an exchange over HTTP/1.1.

    HTTPError
    ├── LocalProtocolError      the request is not valid HTTP/1.1; nothing was sent
    ├── ConnectError            no connection could be made: name, address or TLS
    │   ├── ConnectTimeout      not within the time allowed
    │   └── TrustUnavailable    the trusted certificates can't be read
    ├── ConnectionLost          the connection failed during an exchange, or was aborted
    └── RemoteProtocolError     what arrived is not a valid response
        └── RemoteDisconnected  the connection closed before the response was complete

Where the operating system or the TLS library reported an error, that error is the `__cause__`.
"""


class HTTPError(Exception):
    """The root of this tree."""


class LocalProtocolError(HTTPError):
    """The request is not valid HTTP/1.1."""


class ConnectError(HTTPError):
    """No connection could be made."""


class ConnectTimeout(ConnectError):
    """No connection could be made within the time allowed."""


class TrustUnavailable(ConnectError):
    """The trusted certificates can't be read from this machine's disk."""


class ConnectionLost(HTTPError):
    """The connection failed during an exchange, or was aborted."""


class RemoteProtocolError(HTTPError):
    """What arrived is not a valid response."""


class RemoteDisconnected(RemoteProtocolError):
    """The connection closed before the response was complete."""
