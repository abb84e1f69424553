"""The options before the command: where configuration, state and log are.

In their usual form they are parsed here: typer converts a path with pydantic, which takes longer to
import than most commands take to run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple


class Files(NamedTuple):
    """The files that the options name."""

    config: Path | None = None
    state: Path | None = None
    log: Path | None = None


_FIELDS: Final = {"--config": "config", "--state": "state", "--log-file": "log"}


def split_files(arguments: Sequence[str]) -> tuple[Files, list[str]]:
    """The files that the first options name, and the command line from the command on.

    No files and the whole command line if anything about it is unusual: typer parses and reports
    that.
    """
    given: dict[str, Path] = {}
    rest = list(arguments)
    while len(rest) > 2 and (name := _FIELDS.get(rest[0])) and name not in given:
        if not rest[1] or rest[1].startswith("-"):
            break
        given[name] = Path(rest[1])
        del rest[:2]
    if not rest or rest[0].startswith("-"):
        return Files(), list(arguments)
    return Files(**given), rest
