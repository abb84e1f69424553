"""Claude on Google's Vertex AI: the Messages API over `rawPredict` and `streamRawPredict`.

A request names its model in the URL and the version of the API in its body; beta flags stay in
their header. Answers and streams are Anthropic's own. Errors have Anthropic's shape if they come
from the model, and Google's if they come from the platform. See
https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.model_names import LONGEST_ID
from ccfallback.wire.anthropic import CountTokensFormat, MessagesFormat
from ccfallback.wire.format import Unconvertible, WireRefusal
from ccfallback.wire.headers import PLAIN_HEADERS

VERSION: Final = "vertex-2023-10-16"
"""The value of `anthropic_version`, which takes the place of the header `anthropic-version`."""

_HOSTS: Final[Mapping[str, str]] = {
    "global": "aiplatform.googleapis.com",
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
}
"""The hosts of the locations that are not single regions."""

_LOCATION: Final = re.compile(r"/projects/[^/]+/locations/[^/]+$")
_API_VERSION: Final = re.compile(r"/v\d+(?:beta\d+)?$")

_TOO_LARGE: Final = re.compile(r"\brequest size \(\d+ bytes\) exceeds\b", re.IGNORECASE)
_NOT_SERVED: Final = re.compile(
    r"\bnot servable in region\b|\bpublisher model\b.{0,400}\b(?:not found|not supported)\b",
    re.IGNORECASE | re.DOTALL,
)

_PASSING: Final[Mapping[str, int]] = {"CANCELLED": 503, "ABORTED": 503}
"""Google's names of failures that pass, though their HTTP statuses blame the request."""


@lru_cache(maxsize=512)
def models_url(base_url: str, project: str, location: str) -> str:
    """The URL below which the models of Anthropic are, with `{}` in the place of model and method.

    A base URL may be a host, end with the version of the API or with a location, or be the endpoint
    of a model. The query is kept.
    """
    parts = urlsplit(base_url)
    path, is_endpoint, _ = parts.path.rstrip("/").partition("/publishers/")
    if not is_endpoint and not _LOCATION.search(path):
        if not _API_VERSION.search(path):
            path += "/v1"
        path += f"/projects/{quote(project, safe=':')}/locations/{quote(location)}"
    path = path.replace("{", "%7B").replace("}", "%7D") + "/publishers/anthropic/models/{}"
    query = parts.query.replace("{", "%7B").replace("}", "%7D")
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


class VertexFormat(MessagesFormat):
    """The Messages API at Vertex AI."""

    name = "vertex"
    title = "Vertex AI"
    endpoint = "rawpredict"
    auth_header = "Authorization"
    client_headers = PLAIN_HEADERS | {b"anthropic-beta"}
    fallback_headers = ()
    refusal_mark = re.compile(
        MessagesFormat.refusal_mark.pattern
        + rb'|^\s*\[?\s*\{\s*"error"\s*:\s*\{[^{}]*"status"\s*:\s*"[A-Z_]+"'
    )

    def default_base_url(self, provider: Provider) -> str:
        """The host of the provider's location."""
        location = provider.google.location
        return f"https://{_HOSTS.get(location, f'{location}-aiplatform.googleapis.com')}"

    def missing_key(self, provider: Provider) -> str:
        """The project, unless the base URL has it."""
        is_known = provider.google.project or "/projects/" in provider.base_url
        return "" if is_known else "google.project"

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The endpoint of a model."""
        if not model.strip():
            raise Unconvertible("it names no model")
        if len(model) > LONGEST_ID:
            raise Unconvertible("the name of its model is too long to be an id")
        method = "streamRawPredict" if stream else "rawPredict"
        return self._url(provider, f"{quote(model, safe='@')}:{method}")

    def _url(self, provider: Provider, model_and_method: str) -> str:
        google = provider.google
        found = models_url(provider.base_url, google.project or "-", google.location)
        return found.replace("{}", model_and_method)

    def models_url(self, provider: Provider) -> None:
        """There is no list of what a project may use."""
        return

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The body without the model, and with the version."""
        return body.without("model").with_members(anthropic_version=VERSION)

    def refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, now: float
    ) -> WireRefusal:
        """The error, in Anthropic's terms where Google's say something else."""
        found = super().refusal(status, headers, body, now)
        error = found.error
        if error.type in _PASSING:
            return replace(found, status=_PASSING[error.type])
        if status in (400, 413) and _TOO_LARGE.search(error.message):
            kind = "request_too_large"
            return replace(found, status=413, error=replace(error, type=kind, code=kind))
        if status == 400 and _NOT_SERVED.search(error.message):
            return replace(found, status=404, error=replace(error, type="not_found_error"))
        return found


class VertexCountTokensFormat(VertexFormat, CountTokensFormat):
    """The endpoint that counts tokens. It is the same for all models, so the body names the model,
    without the date of its version."""

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The counting endpoint."""
        return self._url(provider, "count-tokens:rawPredict")

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The body with the version."""
        model = body.model.partition("@")[0]
        return body.with_members(model=model, anthropic_version=VERSION)


VERTEX: Final = VertexFormat()
VERTEX.counting = VertexCountTokensFormat()
