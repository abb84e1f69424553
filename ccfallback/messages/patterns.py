"""Regular expressions that are compiled when they are first used.

Compiling those for refusals, which most processes never see, would take a third of a start.
"""

import re
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
