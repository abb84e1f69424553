"""What a wire format is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError


@dataclass(slots=True)
class Usage:
    """Tokens of an answer, as Anthropic counts them; `None` where nobody said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt, cached ones included."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cache_read or 0) + (self.cache_write or 0)

    def take(self, value: object) -> None:
        """Take what a usage object says: the last word counts, member by member."""
        if not isinstance(value, dict):
            return
        for name, key in _USAGE_KEYS:
            count = value.get(key)
            if isinstance(count, int) and not isinstance(count, bool):
                setattr(self, name, count)


_USAGE_KEYS = (
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("cache_read", "cache_read_input_tokens"),
    ("cache_write", "cache_creation_input_tokens"),
)


class StreamTranslator(Protocol):
    """Turns an upstream's stream into Anthropic's events, whatever the cuts between its reads.

    Only whole events come out. After `error` is set nothing more does: the event that carries
    the error is kept back, and so is all that follows.
    """

    heard: bool
    """Whether any event has come, which ends the wait for the first byte."""
    started: bool
    """Whether content has come out: the commit point."""
    complete: bool
    """Whether a stop reason has come out, which tells an end from a cut."""
    finished: bool
    """Whether the stream has said its last word; whatever else comes is not read."""
    error: UpstreamError | None
    """What the stream said went wrong, or what is wrong with the stream."""
    usage: Usage
    signatures: list[str]
    """Signatures of thinking that have come out, as the provider made them."""

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now. Never raises."""

    def finish(self) -> bytes:
        """What remains to be said at the end of the upstream's stream."""


@dataclass(slots=True)
class Whole:
    """A whole answer, translated."""

    body: bytes
    error: UpstreamError | None = None
    """Why it is no answer, if it is none."""
    usage: Usage = field(default_factory=Usage)
    signatures: list[str] = field(default_factory=list)


class Unconvertible(Exception):
    """The request means something that the format has no words for; says what."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status that is no success, as Anthropic would have said it."""

    status: int
    error: UpstreamError
    until: float | None = None
    """A reset hint that the format's own headers or texts give, in Unix seconds."""
    hint: str = ""
    """Where it stands: the name of a header, or `message`."""


@dataclass(frozen=True, slots=True)
class WireFormat:
    """How providers of one format are spoken to."""

    name: str
    request: Callable[[Body, Provider], Body]
    """The provider's body for the client's; the model is already the provider's own.

    Raises `Unconvertible`.
    """
    stream: Callable[[Body, Provider], StreamTranslator]
    """A translator for the answer to the client's body."""
    whole: Callable[[bytes, Body, Provider], Whole]
    """An answer that is not a stream, for the client's body."""
    refusal: Callable[[int, Mapping[str, str], bytes, float], Refusal]
    """What a status that is no success means: by status, lower-case headers, body, and the time."""
    auth_header: str = "Authorization"
    """The header that carries the key where the configuration names none."""
    idle_timeout: float | None = None
    """The `timeouts.idle` of its providers where the configuration sets none, in seconds."""
