"""The Chat Completions format of OpenAI, and of the many providers with dialects of it.

`request` translates what the client asks, `stream` what the provider answers, and
`errors` what it refuses. The differences between providers are their quirks.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.format import StreamTranslator, Whole, WireFormat, WireRefusal, endpoint_url
from ccfallback.wire.openai.errors import refusal
from ccfallback.wire.openai.request import omitted_parts, to_openai
from ccfallback.wire.openai.stream import OpenAIStream, whole

ENDPOINT: Final = "/v1/chat/completions"


class ChatCompletionsFormat(WireFormat):
    """OpenAI's Chat Completions API."""

    name = "openai"
    title = "OpenAI"
    endpoint = "/chat/completions"
    # Reasoning models of this format may think without sending anything.
    idle_timeout = 180.0
    has_quirks = True
    answer_mark = re.compile(rb'"choices"\s*:\s*\[|"object"\s*:\s*"chat\.completion')
    refusal_mark = re.compile(rb'^\s*\{\s*"error"\s*:\s*\{')

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The provider's Chat Completions endpoint."""
        return endpoint_url(provider.base_url, ENDPOINT, below_any_path=True)

    def models_url(self, provider: Provider) -> str:
        """The URL of the provider's list of models."""
        url = endpoint_url(provider.base_url, ENDPOINT, below_any_path=True)
        return url.replace("/chat/completions", "/models", 1)

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The request as a chat completion."""
        return to_openai(body, provider.quirks, body.model)

    def omitted_parts(self, body: Body) -> tuple[str, ...]:
        """The members and tools that a chat completion cannot have."""
        return omitted_parts(body)

    def stream(
        self, client_body: Body, provider: Provider, filters: Sequence[EventFilter] = ()
    ) -> StreamTranslator:
        """A translator of chunks into events."""
        quirks = provider.quirks
        return OpenAIStream(
            client_body, filters, think_tags=quirks.think_tags, think_start=quirks.think_start
        )

    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The message for a completion."""
        quirks = provider.quirks
        return whole(raw, client_body, think_tags=quirks.think_tags or quirks.think_start)

    def refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, now: float
    ) -> WireRefusal:
        """The error in Anthropic's words, with the reset hint that it gives."""
        return refusal(status, headers, body, now)


OPENAI: Final = ChatCompletionsFormat()
