"""What Claude Code's own settings put into its environment. They are read, never written."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

MANAGED: Final[Mapping[str, Path]] = MappingProxyType(
    {
        "linux": Path("/etc/claude-code/managed-settings.json"),
        "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
        "win32": Path(r"C:\Program Files\ClaudeCode\managed-settings.json"),
    }
)
"""Settings that beat all others, by system."""


@dataclass(frozen=True, slots=True)
class Source:
    """A place that has a say in Claude Code's environment."""

    name: str
    """What a person calls it: a path, or the environment."""
    variables: Mapping[str, str]
    unreadable: bool = False


def sources(
    environ: Mapping[str, str], home: Path, folder: Path, managed: Path | None = None
) -> list[Source]:
    """All of them, for a Claude Code that is started in `folder`; a later one beats an earlier.

    `managed` is what an organization has laid down; it counts where it is there.
    """
    managed = MANAGED.get(sys.platform, MANAGED["linux"]) if managed is None else managed
    own = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    paths = (
        own / "settings.json",
        folder / ".claude" / "settings.json",
        folder / ".claude" / "settings.local.json",
    )
    return [
        Source("the environment", environ),
        *(_read(path) for path in dict.fromkeys(paths)),
        *([_read(managed)] if managed.exists() else []),
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
