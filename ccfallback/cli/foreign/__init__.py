"""The provider lists of other programs, in our words.

Best effort: what can't be carried over is named in `left_out`, never guessed. What is taken over
may still be wrong (a URL that is none); the schema says that, as it does for any import.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ccfallback.cli.foreign.cc_switch import cc_switch
from ccfallback.cli.foreign.claude_code_router import claude_code_router
from ccfallback.cli.foreign.found import Foreign, Table, table_of
from ccfallback.cli.foreign.litellm import litellm
from ccfallback.errors import ConfigError

PROGRAMS: Final[Mapping[str, Callable[[Table], Foreign]]] = MappingProxyType(
    {"claude-code-router": claude_code_router, "cc-switch": cc_switch, "litellm": litellm}
)
"""The programs whose files can be read, and how."""


def translated(program: str, found: object) -> Foreign:
    """What a decoded file of a program holds; `ConfigError` if that is no provider at all."""
    foreign = PROGRAMS[program](table_of(found))
    if not foreign.providers:
        why = f" ({'; '.join(foreign.left_out)})" if foreign.left_out else ""
        raise ConfigError(
            f"there is no provider of {program} to be taken over in it{why}",
            "see whether it is that program's own file",
        )
    return foreign
