"""Wire formats: the shapes of providers' APIs. Pure, sans-I/O: bytes in, bytes out.

The proxy speaks Anthropic's Messages API to its client. A format turns a request into what its
providers understand, and their answers, streamed or whole, into Anthropic's.

How to add a format
-------------------
1. Write a module or a package here with a subclass of `format.WireFormat`. `url`, `request`,
   `stream`, `whole` and `refusal` have to be written; a format that carries Anthropic's messages
   over another endpoint starts from `anthropic.MessagesFormat` and overrides what differs:

   - the model in the URL: `url` gets the provider's model and whether a stream is wanted;
   - betas in the body: `request` gets the flags;
   - a key in another header: `auth_header` or `credentials`; a signature instead: `credentials`
     returns nothing, and `sign` sees method, URL, headers, body and time after all else is made;
   - a stream that is not server-sent events: a `StreamTranslator` takes any bytes.

2. Say what the rest of the program has to know: which address follows from other options
   (`default_base_url`), without which option no request can be sent (`missing_key`), whether
   providers take Messages bodies (`speaks_messages`), whether quirks apply (`has_quirks`), which
   endpoint counts tokens (`counting`) or lists models (`models_url`), which client headers a
   fallback may see (`client_headers`), and by which bytes an answer in the format is recognized
   (`answer_mark`, `refusal_mark`). What is special about one place that serves Claude is a row of
   `config.platforms`.
3. Add its name to `FORMATS`. Configuration, server, diagnosis and the tests that hold for
   every format find it there. For `drill`, see `ccfallback.simulator`.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from ccfallback.wire.format import WireFormat


class _Formats(Mapping[str, WireFormat]):
    """The formats by their names; each is loaded when it is first used."""

    def __init__(self, *names: str) -> None:
        """A format is the object of its name, in capitals, in the module of its name."""
        self._names = dict.fromkeys(names)
        self._loaded: dict[str, WireFormat] = {}

    def __getitem__(self, name: str) -> WireFormat:
        found = self._loaded.get(name)
        if found is None:
            if name not in self._names:
                raise KeyError(name)
            module = import_module(f"{__name__}.{name}")
            found = self._loaded[name] = getattr(module, name.upper())
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


FORMATS: Final = _Formats("anthropic", "openai", "vertex", "bedrock")
"""Every format by its name in the configuration."""


def recognize_answer(body: bytes) -> WireFormat | None:
    """The format that an answer is written in, if it is a known one."""
    return next((wire for wire in FORMATS.values() if wire.answer_mark.search(body)), None)


def recognize_refusal(body: bytes) -> WireFormat | None:
    """The format that an error response is written in, if it is a known one."""
    return next((wire for wire in FORMATS.values() if wire.refusal_mark.search(body)), None)
