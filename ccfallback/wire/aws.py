"""Amazon's signature of requests, version 4, and the short-term keys of Bedrock made with it.

Nothing here needs a network or a clock: a signature covers the request and the time that is given.
Source: AWS Signature Version 4, "Create a signed AWS API request"; the form of the keys is that of
`aws-bedrock-token-generator`.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

from ccfallback.wire.credential import AwsKeys

ALGORITHM: Final = "AWS4-HMAC-SHA256"

KEY_SECONDS: Final = 43200
"""How long a short-term key is valid at most: twelve hours."""

DEFAULT_REGION: Final = "us-east-1"
"""Where nothing names a region, as a gateway's host does not."""

_KEY_HOST: Final = "bedrock.amazonaws.com"
_KEY_PREFIX: Final = "bedrock-api-key-"

_SIGNED: Final = ("anthropic-version", "content-type")
"""Headers that are signed if they are there, besides those of Amazon. A proxy may change others."""

_SERVICES: Final = (
    (re.compile(r"bedrock-runtime(?:-fips)?\."), "bedrock"),
    (re.compile(r"bedrock-mantle\."), "bedrock-mantle"),
    (re.compile(r"aws-external-anthropic\."), "aws-external-anthropic"),
)
"""The name of a service in a signature, by the start of its host."""


def service_of_host(host: str, default: str = "bedrock") -> str:
    """The name under which the service at a host checks signatures."""
    return next((name for start, name in _SERVICES if start.match(host)), default)


def signed_headers(
    method: str,
    url: str,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    keys: AwsKeys,
    *,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """The headers that sign a request: `authorization`, `x-amz-date` and perhaps the session token.

    `headers` are those of the request, with names in lower case; `now` is Unix time.
    """
    moment = _moment(now)
    parts = urlsplit(url)
    added = {"x-amz-date": moment}
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    signed = {"host": parts.netloc.rpartition("@")[2], **added}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name in _SIGNED:
            value = raw_value.decode("latin-1")
            signed[name] = f"{signed[name]},{value}" if name in signed else value
    names = ";".join(sorted(signed))
    request = canonical_request(method, parts.path, parts.query, signed, sha256(body).hexdigest())
    scope = _scope(moment, region, service)
    signature = sign(request, keys.secret_access_key, moment, scope)
    authorization = (
        f"{ALGORITHM} Credential={keys.access_key_id}/{scope},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return {**added, "authorization": authorization}


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], payload_hash: str
) -> str:
    """The text that stands for a request in its signature.

    The path is encoded once more than it is on the wire, as every service but S3 wants it.
    """
    lines = [f"{name}:{' '.join(value.split())}" for name, value in sorted(headers.items())]
    return "\n".join(
        (
            *(method, quote(_normal(path), safe="/-_.~"), _canonical_query(query)),
            *(*lines, "", ";".join(sorted(headers)), payload_hash),
        )
    )


def sign(request: str, secret: str, moment: str, scope: str) -> str:
    """The signature of a canonical request, in hexadecimal digits."""
    text = "\n".join((ALGORITHM, moment, scope, sha256(request.encode()).hexdigest()))
    date, region, service, _ = scope.split("/")
    return hmac.new(_signing_key(secret, date, region, service), text.encode(), sha256).hexdigest()


def short_term_key(keys: AwsKeys, *, region: str, now: float, seconds: int = KEY_SECONDS) -> str:
    """A key for Bedrock in one region, made of other credentials without asking a server.

    It is valid for `seconds`, but never longer than the credentials that made it.
    """
    moment = _moment(now)
    scope = _scope(moment, region, "bedrock")
    query = {
        "Action": "CallWithBearerToken",
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key_id}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if keys.session_token:
        query["X-Amz-Security-Token"] = keys.session_token
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    request = canonical_request("POST", "/", text, {"host": _KEY_HOST}, sha256(b"").hexdigest())
    signature = sign(request, keys.secret_access_key, moment, scope)
    url = f"{_KEY_HOST}/?{text}&X-Amz-Signature={signature}&Version=1"
    return _KEY_PREFIX + b64encode(url.encode()).decode()


def _moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def _scope(moment: str, region: str, service: str) -> str:
    return f"{moment[:8]}/{region}/{service}/aws4_request"


@lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of one day, for one region and service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), sha256).digest()
    return key


def _normal(path: str) -> str:
    """A path without empty and dot segments (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept[-1:] = []
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"


def _canonical_query(query: str) -> str:
    """A query as it is on the wire, sorted by name and value."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))
