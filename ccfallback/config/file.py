"""The configuration file: read it, change it, and undo a change.

A text that would not load is never written. An edit happens under the lock and on the text of that
moment, so that comments and order survive. Every text that is read and loads is kept as a version,
however it got into the file, and so is every text that is replaced.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ccfallback import files
from ccfallback.config.model import Config
from ccfallback.config.schema import FindRegion, FormatDefaults, parse
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import ConfigError
from ccfallback.files import Busy
from ccfallback.redact import scrub_misplaced

if TYPE_CHECKING:
    from ccfallback.config.edit import Document

T = TypeVar("T")

MOST_VERSIONS: Final = 50

BY_HAND: Final = "edited by hand"

CLEARED: Final = "# Everything is at its default.\n"
"""What is written instead of an empty file, which looks like the moment in which an editor has
emptied the file to write it anew."""

_KEEPING_SECONDS: Final = 0.5
"""How long a reader waits for the lock to keep what it has read; another reader keeps it too."""

_POSITION: Final = re.compile(r"\(at line (\d+), column (\d+)\)$")
"""Where a text stops being TOML, at the end of the parser's message."""

_VERSION: Final = re.compile(r"(\d+)\.toml")


class Version(msgspec.Struct, frozen=True):
    """An earlier text of the configuration."""

    number: int
    path: Path
    time: float
    """When it was last in use, as far as known, in Unix seconds."""

    @property
    def by(self) -> str:
        """What wrote it, such as `providers remove` or `BY_HAND`; empty if that is not known."""
        try:
            return files.read_regular(_note(self.path)).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def text(self) -> str:
        """The text. Raises `ConfigError` if it cannot be read."""
        try:
            return files.read_regular(self.path).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"version {self.number} can't be read",
                "`ccfallback config history` lists the others",
            ) from error


def _note(version: Path) -> Path:
    """The file that says what wrote a version."""
    return version.with_suffix(".by")


class ConfigFile:
    """One configuration file and its history."""

    def __init__(
        self,
        path: Path,
        formats: Mapping[str, FormatDefaults],
        rectifiers: Callable[[], Iterable[str]],
        find_region: FindRegion,
        writer: str = "",
    ) -> None:
        """`formats` and `rectifiers` are the names that the configuration may use.

        `rectifiers` is only called for a file that switches one, and `find_region` for one with a
        provider on AWS whose region nothing in it names. `writer` is the command that the
        history names for what is written.
        """
        self.path = path
        self._formats = formats
        self._rectifiers = rectifiers
        self._find_region = find_region
        self._writer = writer
        watched = files.WatchedFile(path)
        self.stamp = watched.look
        """The version of the file now, `None` if there is no file; may block."""
        self.is_still = watched.is_still
        """Whether the file is surely this version; never blocks. See `WatchedFile`."""

    def raw(self) -> bytes:
        """The bytes of the file, even of a broken one; empty if there is none."""
        return self._data() or b""

    def text(self) -> str:
        """The text of the file; empty if there is none."""
        return self._decode(self.raw())

    def table(self) -> dict[str, Any]:
        """The content of the file. Raises `ConfigError` if it is not TOML."""
        return self._table(self.text())

    def exists(self) -> bool:
        """Whether there is a file, behind a link too."""
        return self.path.exists()

    def load(self, *, must_exist: bool = False, keep: bool = True) -> Config:
        """The configuration in the file; without a file, the defaults.

        With `must_exist`, a missing or empty file is an error. With `keep`, the text is kept as a
        version.
        """
        data = self._data()
        if data is None and self.path.is_symlink():
            raise ConfigError(
                f"{self.path} is a link to {files.real(self.path)}, which does not exist",
                "create that file, or remove the link",
            )
        if must_exist and (data is None or not data.strip()):
            raise ConfigError(
                f"{self.path} {'does not exist any more' if data is None else 'is empty'}",
                "`ccfallback config rollback` restores it; `ccfallback config reset` clears it",
            )
        if data is None:
            return Config()
        config = self.check(self._decode(data))
        if keep and data.strip():
            self._keep_loaded(data)
        return config

    def check(self, text: str, source: str = "", *, numbered: bool = True) -> Config:
        """The configuration in a text. Raises `ConfigError` if it does not load.

        `source` is where the text came from, for the message; the file itself if it is empty.
        Without `numbered`, the lines of the text are not those of the source.
        """
        source = source or str(self.path)
        return parse(
            self._table(text, source),
            formats=self._formats,
            rectifiers=self._rectifiers,
            source=source,
            text=text if numbered else "",
            find_region=self._find_region,
        )

    def edit(self, change: "Callable[[Document], T]") -> T:
        """Change the file through `change`; nothing is written if the text stays the same."""
        from tomlkit.exceptions import TOMLKitError

        from ccfallback.config.edit import Document

        with files.locked_to_write(self.path, ConfigError):
            before = self.raw()
            text = self._decode(before)
            # The standard parser names the line and column of a fault.
            self._table(text)
            document = Document(text)
            start = document.text
            try:
                result = change(document)
            except TOMLKitError:
                raise self._syntax_error("it can be read, but not edited by a program") from None
            if document.text != start:
                self._write(before, _with_line_ends_like(text, document.text))
            return result

    def replace(self, text: str) -> bool:
        """Replace the whole file, even a broken one; False if it already has that text."""
        with files.locked_to_write(self.path, ConfigError):
            before = self.raw()
            if before == (text or CLEARED).encode():
                return False
            self._write(before, text)
            return True

    def history(self) -> list[Version]:
        """The earlier versions, newest first, without the text that the file has now."""
        versions = self.versions()
        if versions and self._holds(versions[0]):
            del versions[0]
        return versions

    def versions(self) -> list[Version]:
        """All versions that are kept, newest first."""
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
        return self.last_other()[0]

    def last_other(self) -> tuple[Version | None, list[Version]]:
        """The newest version that loads and is not the current text, and the faulty newer ones."""
        faulty = []
        for version in self.versions():
            if self._holds(version):
                continue
            try:
                self.check(version.text())
            except ConfigError:
                faulty.append(version)
            else:
                return version, faulty
        return None, faulty

    def restore(self, version: Version) -> bool:
        """Restore a version, and keep the current one too. False if nothing changed."""
        text = version.text()
        self.check(text, f"version {version.number}")
        return self.replace(text)

    @property
    def _history(self) -> Path:
        target = files.real(self.path)
        return target.with_name(f"{target.name}.history")

    def _write(self, before: bytes, after: str) -> None:
        after = after if after.strip() else CLEARED
        self.check(after)
        self._keep(before)
        files.replace_atomically(self.path, after.encode())
        self._keep(after.encode(), self._writer)

    def _keep(self, data: bytes, by: str = BY_HAND) -> None:
        """Keep a text as the newest version, unless it is that already."""
        versions = self.versions()
        if versions and _content(versions[0]) == data:
            os.utime(versions[0].path)
            return
        number = versions[0].number + 1 if versions else 1
        path = self._history / f"{number:06d}.toml"
        if data and by:
            files.replace_atomically(_note(path), f"{by}\n".encode(), durable=False)
        files.replace_atomically(path, data)
        # Besides the current text.
        for version in versions[MOST_VERSIONS:]:
            version.path.unlink(missing_ok=True)
            _note(version.path).unlink(missing_ok=True)

    def _keep_loaded(self, data: bytes) -> None:
        """Keep a text that has just loaded. Does nothing where the folder is read-only."""
        versions = self.versions()
        if versions and _content(versions[0]) == data:
            return
        with suppress(OSError, Busy, ConfigError), files.locked(self.path, _KEEPING_SECONDS):
            if self._data() == data:
                self._keep(data)

    def _holds(self, version: Version) -> bool:
        """Whether the file has the text of that version now."""
        try:
            return self.raw() == _content(version)
        except ConfigError:
            return False

    def _data(self) -> bytes | None:
        try:
            return files.read_regular(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.path} can't be read: {error.strerror}",
                "check its permissions, or name another file with --config",
            ) from error

    def _decode(self, data: bytes) -> str:
        try:
            # Some editors on Windows write a byte order mark.
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError(
                f"{self.path}:{line}: not UTF-8 text",
                "save it as UTF-8",
                code=ErrorCode.BROKEN_CONFIG,
            ) from None

    def _table(self, text: str, source: str = "") -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            # Some messages of the parser quote a name from the text.
            why, place = scrub_misplaced(str(error)), str(source or self.path)
            if found := _POSITION.search(why):
                why = f"{why[: found.start()].rstrip()} (column {found[2]})"
                raise self._syntax_error(why, f"{place}:{found[1]}") from None
            last = text.rstrip().count("\n") + 1
            raise self._syntax_error(why, f"{place}:{last}") from None
        except RecursionError:
            raise self._syntax_error("nested too deeply", source) from None
        except ValueError:
            # Python limits the digits of a number.
            raise self._syntax_error("a number has too many digits", source) from None

    def _syntax_error(self, why: str, source: str = "") -> ConfigError:
        return ConfigError(
            f"{source or self.path}: not valid TOML: {why}",
            "fix it with `ccfallback config edit`",
            code=ErrorCode.BROKEN_CONFIG,
        )


def _with_line_ends_like(before: str, after: str) -> str:
    """The text `after`, with the line ends of Windows if every line of `before` has them."""
    windows = before.count("\r\n")
    if not windows or windows != before.count("\n"):
        return after
    return after.replace("\r\n", "\n").replace("\n", "\r\n")


def _content(version: Version) -> bytes | None:
    """The bytes of a version; `None` if they cannot be read."""
    try:
        return files.read_regular(version.path)
    except OSError:
        return None


class DraftFile(msgspec.Struct, frozen=True):
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
