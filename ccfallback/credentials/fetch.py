"""A small HTTP client for token endpoints and metadata servers, for use in threads."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ccfallback.structs import Discreet
from ccfallback.threads import call_within

if TYPE_CHECKING:
    import ssl

MOST_BYTES: Final = 64 * 1024
"""A longer answer is not a token."""

SECONDS: Final = 10.0
"""How long an answer may take unless the caller says otherwise."""

SLACK: Final = 1.0
"""Seconds more for what is done before the request: the first one loads the HTTP client."""


class FetchFailed(Exception):
    """There is no answer. The message contains no secret and no URL."""


class Reply(Discreet, msgspec.Struct, frozen=True):
    """An answer. Its `repr` shows no content."""

    SHOWN = ("status",)

    status: int
    body: bytes


class Fetch(Protocol):
    """Sends one request and reads the whole answer. Raises `FetchFailed`."""

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        seconds: float = SECONDS,
        direct: bool = False,
    ) -> Reply:
        """Send a request; `direct` goes around outgoing proxies."""


def no_fetch(*_: object, **_options: object) -> Reply:
    """A `Fetch` for what needs no network: it reaches nothing."""
    raise FetchFailed("no network")


class Fetcher:
    """Sends requests in the same way as the server: with its trusted roots and outgoing proxies."""

    def __init__(
        self,
        load_trust: "Callable[[], ssl.SSLContext]",
        find_proxy: Callable[[str], str | None],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._load_trust = load_trust
        self._find_proxy = find_proxy
        self._most_bytes = most_bytes

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        seconds: float = SECONDS,
        direct: bool = False,
    ) -> Reply:
        """Send a request and read the whole answer. Raises `FetchFailed`."""

        def send() -> Reply:
            return self._send(method, url, headers, body, seconds, direct)

        try:
            # In a thread, because nothing else bounds name resolution and slow headers.
            return call_within(seconds + SLACK, send, "fetch")
        except TimeoutError:
            raise FetchFailed(f"no answer within {seconds:g} s") from None
        except FetchFailed:
            raise
        except Exception as error:
            raise FetchFailed(f"no answer: {type(error).__name__}") from None

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
        direct: bool,
    ) -> Reply:
        # Imported here, because commands that need no network start without them.
        import ssl

        import httpx

        try:
            until = monotonic() + seconds
            trust: ssl.SSLContext = (
                self._load_trust()
                if url.startswith("https:")
                # It trusts no certificate, and loads none: that takes time.
                else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            )
            with (
                httpx.Client(
                    verify=trust,
                    proxy=None if direct else self._find_proxy(url),
                    trust_env=False,
                    timeout=seconds,
                ) as client,
                client.stream(method, url, headers=dict(headers), content=body) as response,
            ):
                found = bytearray()
                for part in response.iter_bytes():
                    found += part
                    if len(found) > self._most_bytes or monotonic() > until:
                        raise FetchFailed("the answer is too long or too slow")
                return Reply(response.status_code, bytes(found))
        except httpx.TimeoutException:
            raise FetchFailed(f"no answer within {seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise FetchFailed(f"no answer: {type(error).__name__}") from None
