"""Regular expressions that are compiled when they are first used, and used where they may match.

Compiling those for refusals, which most processes never see, would take a third of a start. To
search a refusal for many alternatives in any case takes longer than to send the next request.
"""

import re
from collections.abc import Iterable
from typing import Any, AnyStr, cast


class _LazyPattern:
    def __init__(self, pattern: Any, flags: int) -> None:
        self._arguments = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        """Take an attribute of the compiled pattern, and keep it as an own one."""
        value = getattr(re.compile(*self._arguments), name)
        setattr(self, name, value)
        return value


def lazy_re(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` returns, but compiled when it is used."""
    return cast("re.Pattern[AnyStr]", _LazyPattern(pattern, flags))


def has_any(text: str, words: Iterable[str]) -> bool:
    """Whether a text may have one of these words in lower case, whatever its own case is.

    True for any text with other than ASCII characters: to a regular expression that ignores case,
    some of those are equal to `i`, `k` and `s`.
    """
    if not text.isascii():
        return True
    lower = text.lower()
    for word in words:  # noqa: SIM110  (`any` with a generator takes three times as long)
        if word in lower:
            return True
    return False
