"""What Claude Code's own settings put into its environment. They are read, never written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Source:
    """A place that has a say in Claude Code's environment."""

    name: str
    """What a person calls it: a path, or the environment."""
    variables: Mapping[str, str]
    unreadable: bool = False


def sources(environ: Mapping[str, str], home: Path, folder: Path) -> list[Source]:
    """All of them, for a Claude Code that is started in `folder`; a later one beats an earlier."""
    own = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    paths = (
        own / "settings.json",
        folder / ".claude" / "settings.json",
        folder / ".claude" / "settings.local.json",
    )
    return [
        Source("the environment", environ),
        *(_read(path) for path in dict.fromkeys(paths)),
    ]


def _read(path: Path) -> Source:
    try:
        document: Any = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return Source(str(path), {})
    except (OSError, ValueError, RecursionError):
        return Source(str(path), {}, unreadable=True)
    table = document.get("env") if isinstance(document, dict) else None
    if not isinstance(table, dict):
        return Source(str(path), {}, unreadable=not isinstance(document, dict))
    return Source(str(path), {k: v for k, v in table.items() if isinstance(v, str)})
