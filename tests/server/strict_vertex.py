"""A scripted Vertex AI that checks each request as the real one does."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from ccfallback.simulator import scripted_format, strict_clouds
from ccfallback.simulator.scripted import Received, Script, answer
from ccfallback.simulator.scripted_vertex import error

LIMIT: Final = 30_000_000
"""The bytes that a body may have."""

_TARGET: Final = re.compile(
    r"/v1/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/anthropic/models/"
    r"(?P<model>[^/:]+):(?P<method>rawPredict|streamRawPredict)(?:\?.*)?"
)
_VERSIONS: Final = ("vertex-2023-10-16", "2026-10-21")
"""The older one, and the one that the newest clients send."""

_UNAUTHENTICATED: Final = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
    "or other valid authentication credential."
)


@dataclass(slots=True)
class StrictVertex:
    """The `route` of a `ScriptedUpstream`.

    A request in which nothing is wrong gets what `model` scripts for it.
    """

    model: Callable[[Received], Script]
    project: str = "my-project"
    location: str = "global"
    models: frozenset[str] = frozenset()
    """The models that are enabled; none means all."""
    tokens: set[str] = field(default_factory=lambda: {"ya29.scripted"})
    """The access tokens that have not expired."""
    refused: list[str] = field(default_factory=list)
    """What was wrong with requests, in order."""

    def __call__(self, request: Received) -> Script:
        """The answer to a request."""
        place = _TARGET.fullmatch(request.target)
        if request.method != "POST" or place is None:
            return self._refuse(404, "NOT_FOUND", f"no method at {request.target}")
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            return self._refuse(401, "UNAUTHENTICATED", _UNAUTHENTICATED)
        resource = request.target.partition("/v1/")[2].partition(":")[0]
        if place["project"] != self.project:
            missing = f"Permission 'aiplatform.endpoints.predict' denied on resource '{resource}'"
            return self._refuse(403, "PERMISSION_DENIED", missing)
        if len(request.body) > LIMIT:
            size = f"The request size ({len(request.body)} bytes) exceeds 30.000MB limit."
            return self._refuse(400, "INVALID_ARGUMENT", size)
        name = unquote(place["model"])
        is_count = name == "count-tokens"
        if is_count:
            name = request.json.get("model", "")
        if place["location"] != self.location or (self.models and name not in self.models):
            unknown = (
                f"Publisher Model `{resource}` was not found or your project does not have access"
                " to it. Please ensure you are using a valid model version."
            )
            return self._refuse(404, "NOT_FOUND", unknown)
        for fault in self._faults(request, name, place["method"], is_count=is_count):
            self.refused.append(fault)
            return scripted_format.ANTHROPIC.error(400, "invalid_request_error", fault, {})
        if is_count:
            return answer(200, b'{"input_tokens":42}')
        return self.model(request)

    def _refuse(self, status: int, word: str, message: str) -> Script:
        self.refused.append(f"{status} {message}")
        return error(status, word, message)

    @staticmethod
    def _faults(request: Received, model: str, method: str, *, is_count: bool) -> Iterator[str]:
        body = dict(request.json)
        if request.header("anthropic-version") is not None:
            yield "anthropic-version: header is not supported, use anthropic_version"
        if body.get("anthropic_version") not in _VERSIONS:
            yield "anthropic_version: Field required"
        if is_count:
            if "@" in body.pop("model", "@"):
                yield "model: a name without a version is expected"
        elif (body.get("stream") is True) != (method == "streamRawPredict"):
            yield f"stream: does not fit {method}"
        betas = (request.header("anthropic-beta") or "").split(",")
        flags = [flag.strip() for flag in betas if flag.strip()]
        yield from strict_clouds.faults("vertex", model, body, flags)
