"""The configuration file: read it, change it, and undo a change.

A text that would not load is never written. An edit happens under the lock and on the text of that
moment, so that comments and order survive, and the version before it is kept.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ccfallback import files
from ccfallback.config.model import Config
from ccfallback.config.schema import FormatDefaults, parse
from ccfallback.errors import ConfigError
from ccfallback.files import Busy, Stamp

if TYPE_CHECKING:
    from ccfallback.config.edit import Document

T = TypeVar("T")

MOST_VERSIONS: Final = 50

_VERSION: Final = re.compile(r"(\d+)\.toml")


@dataclass(frozen=True, slots=True)
class Version:
    """The configuration before a write."""

    number: int
    path: Path
    time: float
    """When it was replaced, in Unix seconds."""


class ConfigFile:
    """One configuration file and its history."""

    def __init__(
        self,
        path: Path,
        formats: Mapping[str, FormatDefaults],
        rectifiers: Callable[[], Iterable[str]],
    ) -> None:
        """`formats` and `rectifiers` are the names that the configuration may use.

        `rectifiers` is only called for a file that switches one.
        """
        self.path = path
        self._formats = formats
        self._rectifiers = rectifiers
        self._watched = files.WatchedFile(path)

    def stamp(self) -> Stamp | None:
        """The version of the file now, `None` if there is no file; may block."""
        return self._watched.look()

    def is_still(self, version: object) -> bool:
        """Whether the file is surely this version; never blocks. See `WatchedFile`."""
        return self._watched.is_still(version)

    def raw(self) -> bytes:
        """The bytes of the file, even of a broken one; empty if there is none."""
        try:
            return self._bytes() or b""
        except OSError as error:
            raise self._unreadable(error) from error

    def text(self) -> str:
        """The text of the file; empty if there is none."""
        return self._read() or ""

    def table(self) -> dict[str, Any]:
        """The content of the file. Raises `ConfigError` if it is not TOML."""
        return self._table(self.text())

    def load(self) -> Config:
        """The configuration in the file; without a file, the defaults."""
        text = self._read()
        return Config() if text is None else self.check(text)

    def check(self, text: str) -> Config:
        """The configuration in a text. Raises `ConfigError` if it does not load."""
        return parse(
            self._table(text),
            formats=self._formats,
            rectifiers=self._rectifiers,
            source=str(self.path),
        )

    def edit(self, change: "Callable[[Document], T]") -> T:
        """Change the file through `change`; nothing is written if the text stays the same."""
        from tomlkit.exceptions import TOMLKitError

        from ccfallback.config.edit import Document

        with self._writing():
            before = self._read()
            text = before or ""
            # The standard parser names the line and column of a fault.
            self._table(text)
            document = Document(text)
            start = document.text
            try:
                result = change(document)
            except TOMLKitError:
                raise self._broken("it can be read, but not edited by a program") from None
            if document.text != start:
                self._write(before, document.text)
            return result

    def replace(self, text: str) -> bool:
        """Replace the whole file, even a broken one; False if it already has that text."""
        with self._writing():
            try:
                before = self._bytes()
            except OSError as error:
                raise self._unreadable(error) from error
            if before == text.encode():
                return False
            self._write(before, text)
            return True

    def history(self) -> list[Version]:
        """The earlier versions, newest first."""
        try:
            entries = list(self._history.iterdir())
        except OSError:
            return []
        found = []
        for path in entries:
            match = _VERSION.fullmatch(path.name)
            stamp = files.stamp(path)
            if match and stamp:
                found.append(Version(int(match[1]), path, stamp[0] / 1e9))
        return sorted(found, key=lambda version: version.number, reverse=True)

    def last_good(self) -> Version | None:
        """The newest earlier version that loads."""
        for version in self.history():
            try:
                self.check(files.read_regular(version.path).decode())
            except (ConfigError, OSError, UnicodeDecodeError):
                continue
            return version
        return None

    def restore(self, version: Version) -> bool:
        """Restore a version, and keep the current one too. False if nothing changed."""
        try:
            text = files.read_regular(version.path).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"version {version.number} of {self.path} can't be read",
                "`ccfallback config history` lists the others",
            ) from error
        return self.replace(text)

    @property
    def _history(self) -> Path:
        target = files.real(self.path)
        return target.with_name(f"{target.name}.history")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, and turn errors of the disk into `ConfigError`."""
        try:
            with files.locked(self.path):
                yield
        except Busy as error:
            raise ConfigError(error.message, error.hint) from error
        except OSError as error:
            raise ConfigError(
                f"{self.path} can't be written: {error.strerror or error}",
                "check the permissions of the file and its folder, and the free space on the disk",
            ) from error

    def _write(self, before: str | bytes | None, after: str) -> None:
        self.check(after)
        self._keep(before.encode() if isinstance(before, str) else before or b"")
        files.replace_atomically(self.path, after.encode())

    def _keep(self, data: bytes) -> None:
        versions = self.history()
        number = versions[0].number + 1 if versions else 1
        files.replace_atomically(self._history / f"{number:06d}.toml", data)
        for version in versions[MOST_VERSIONS - 1 :]:
            version.path.unlink(missing_ok=True)

    def _bytes(self) -> bytes | None:
        try:
            return files.read_regular(self.path)
        except FileNotFoundError:
            return None

    def _read(self) -> str | None:
        try:
            data = self._bytes()
        except OSError as error:
            raise self._unreadable(error) from error
        if data is None:
            return None
        try:
            # Some editors on Windows write a byte order mark.
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError(
                f"{self.path} is not UTF-8 text (line {line})", "save it as UTF-8"
            ) from None

    def _unreadable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path} can't be read: {error.strerror}",
            "check its permissions, or name another file with --config",
        )

    def _table(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._broken(str(error)) from None
        except RecursionError:
            raise self._broken("nested too deeply") from None
        except ValueError:
            # Python limits the digits of a number.
            raise self._broken("a number has too many digits") from None

    def _broken(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is not valid TOML: {why}", "fix it with `ccfallback config edit`"
        )


@dataclass(frozen=True, slots=True)
class DraftFile:
    """A text that the user wrote and that would not load, kept next to the configuration."""

    config: Path

    @property
    def path(self) -> Path:
        """The path of the draft, of which there is at most one."""
        return self.config.with_name(f"{self.config.name}.draft")

    def read(self) -> str | None:
        """The draft; `None` if there is none, or if the configuration has changed since."""
        try:
            written = self.path.stat().st_mtime_ns
            if self.config.exists() and self.config.stat().st_mtime_ns > written:
                return None
            return files.read_regular(self.path).decode("utf-8", "replace")
        except OSError:
            return None

    def keep(self, text: str) -> None:
        """Write the draft, readable for the user alone."""
        files.replace_atomically(self.path, text.encode())

    def drop(self) -> None:
        """Delete the draft."""
        self.path.unlink(missing_ok=True)
