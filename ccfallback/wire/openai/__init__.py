"""The Chat Completions format of OpenAI, and of the many who speak it in their own way.

`request` says what the client asked, `response` and `stream` what the provider answered, and
`errors` what it refused. How a provider differs from the others is in its quirks.
"""

from typing import Final

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.wire.format import Whole, WireFormat
from ccfallback.wire.openai.errors import refusal
from ccfallback.wire.openai.request import to_openai
from ccfallback.wire.openai.response import whole
from ccfallback.wire.openai.stream import OpenAIStream


def _request(body: Body, provider: Provider) -> Body:
    return to_openai(body, provider.quirks, body.model)


def _stream(asked: Body, provider: Provider) -> OpenAIStream:
    return OpenAIStream(asked, think_tags=provider.quirks.think_tags)


def _whole(raw: bytes, asked: Body, provider: Provider) -> Whole:
    return whole(raw, asked, think_tags=provider.quirks.think_tags)


OPENAI: Final = WireFormat(
    name="openai",
    request=_request,
    stream=_stream,
    whole=_whole,
    refusal=refusal,
    # Reasoning models may think in silence.
    idle_timeout=180.0,
)
