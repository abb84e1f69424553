"""What a person wrote and would not load: kept beside the configuration, to go on with."""

from dataclasses import dataclass
from pathlib import Path

from ccfallback.files import replace_atomically


@dataclass(frozen=True, slots=True)
class DraftFile:
    """The draft of a configuration, 0600 as that is; there is at most one."""

    config: Path

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.config.with_name(f"{self.config.name}.draft")

    def read(self) -> str | None:
        """What was written; `None` if there is none, or the configuration has changed since."""
        try:
            written = self.path.stat().st_mtime_ns
            if self.config.exists() and self.config.stat().st_mtime_ns > written:
                return None
            return self.path.read_text("utf-8", "replace")
        except OSError:
            return None

    def keep(self, text: str) -> None:
        """Keep it."""
        replace_atomically(self.path, text.encode())

    def drop(self) -> None:
        """It is not needed any more."""
        self.path.unlink(missing_ok=True)
