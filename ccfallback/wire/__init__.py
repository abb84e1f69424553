"""Wire formats: how a provider speaks. Pure, sans-I/O: bytes in, bytes out.

The proxy speaks Anthropic's Messages API to its client. A format turns a request into what its
providers understand, and their answers, whole or in a stream, into Anthropic's.

To add one: a module or package that builds a `WireFormat`, and its line in `FORMATS`.
"""

from collections.abc import Mapping
from typing import Final

from ccfallback.wire.anthropic import ANTHROPIC
from ccfallback.wire.format import WireFormat
from ccfallback.wire.openai import OPENAI

FORMATS: Final[Mapping[str, WireFormat]] = {
    "anthropic": ANTHROPIC,
    "openai": OPENAI,
}
