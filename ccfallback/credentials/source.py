"""What the sources of credentials have in common: what they read, and what they find."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from typing import Any, Final

import msgspec

from ccfallback.config.checks import is_header_value
from ccfallback.credentials.fetch import Fetch, FetchFailed
from ccfallback.credentials.program import KeyUnavailable, Output, run
from ccfallback.structs import Discreet
from ccfallback.wire.credential import AwsKeys, Credential

LOGIN_SECONDS: Final = 15.0
"""How long the program of a cloud may take; it usually takes one to three seconds."""

METADATA_SECONDS: Final = 1.0
"""How long a metadata server may take: it is on this machine, or does not exist."""

MOST_FILE: Final = 1024 * 1024
"""Bytes of a file with credentials or settings that are read."""

_EXPIRES_IN: Final = ("expires_in", "expiresIn")
_EXPIRES: Final = ("expires_on", "expires_at", "expiresAt", "expiry", "Expiration", "expiration")
_LOCAL_EXPIRES: Final = ("expiresOn",)
"""The names of the end of a credential. The program `az` gives `expiresOn` in local time."""

_TOKENS: Final = ("token", "access_token", "accessToken")

_YEAR_2001: Final = 1e9
"""Unix seconds: a smaller number is a number of seconds from now."""
_MILLISECONDS: Final = 1e11


class Machine(Discreet, msgspec.Struct, frozen=True):
    """What a source may read: the environment, the network and the clock."""

    environ: Mapping[str, str]
    fetch: Fetch
    now: Callable[[], float]

    def variable(self, *names: str) -> str:
        """The first of these variables that is set; empty if none is."""
        return next((value for name in names if (value := self.environ.get(name, "").strip())), "")

    @property
    def home(self) -> Path:
        """The home directory of the user."""
        home = self.variable("HOME", "USERPROFILE")
        return Path(home) if home else Path("~").expanduser()

    def path(self, variable: str) -> Path | None:
        """The path in a variable; `None` if it is not set. A `~` is the home directory."""
        value = self.variable(variable)
        is_in_home = value == "~" or value.startswith("~/")
        return self.home / value[2:] if is_in_home else Path(value) if value else None

    def find_program(self, name: str) -> str | None:
        """The path of an installed program."""
        return which(name, path=self.environ.get("PATH"))

    def run(self, command: tuple[str, ...], name: str = "") -> Output:
        """What a program printed and its exit status. Raises `KeyUnavailable`."""
        return run(command, self.environ, LOGIN_SECONDS, name)

    def read(self, path: Path, what: str) -> str | None:
        """The text of a file; `None` if there is none. Raises `KeyUnavailable`."""
        try:
            if not path.is_file():
                if path.is_fifo() or path.is_dir():
                    # A pipe might never be written to, and can be read only once.
                    raise KeyUnavailable(f"{what} ({path}) is not a file")
                return None
            with path.open("rb") as file:
                return file.read(MOST_FILE).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise KeyUnavailable(f"{what} ({path}) is not UTF-8 text") from None
        except OSError as error:
            why = error.strerror or "it is not readable"
            raise KeyUnavailable(f"{what} ({path}) can't be read: {why}") from None

    def ask_metadata(
        self, url: str, headers: Mapping[str, str], *, method: str = "GET"
    ) -> bytes | None:
        """The answer of a metadata server of this machine; `None` if it has none."""
        try:
            reply = self.fetch(method, url, headers, seconds=METADATA_SECONDS, direct=True)
        except FetchFailed:
            return None
        return reply.body if reply.status == 200 else None


class Resolved(msgspec.Struct, frozen=True):
    """A credential, how long it is valid, and where it was found."""

    credential: Credential
    source: str
    """The name of the place, such as `AWS profile work`."""
    expires_at: float | None = None
    """Unix seconds; `None` if that is not known, or never."""


def resolve_json(text: bytes | str, source: str, now: float) -> Resolved:
    """The credential in JSON: a token, or AWS keys. Raises `KeyUnavailable`."""
    table = decode_table(text, source)
    nested = table.get("Credentials")
    if isinstance(nested, Mapping):
        table = nested
    expires_at = _expiry(table, now)
    if "AccessKeyId" in table:
        token = table.get("SessionToken", table.get("Token"))
        keys = AwsKeys(
            _secret(table, "AccessKeyId", source),
            _secret(table, "SecretAccessKey", source),
            "" if token in (None, "") else _secret({"SessionToken": token}, "SessionToken", source),
        )
        credential = Credential(aws=keys)
    else:
        name = next((name for name in _TOKENS if table.get(name)), None)
        if name is None:
            raise KeyUnavailable(f"the JSON of {source} has neither a token nor AWS keys")
        credential = Credential(_secret(table, name, source))
    if expires_at is not None and expires_at <= now:
        raise KeyUnavailable(f"the credential of {source} has expired")
    return Resolved(credential, source, expires_at)


def decode_table(text: bytes | str, source: str) -> Mapping[str, Any]:
    """The members of a JSON object. Raises `KeyUnavailable`."""
    try:
        table = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        table = None
    if not isinstance(table, Mapping):
        raise KeyUnavailable(f"{source} gave something else than a JSON object")
    return table


def _secret(table: Mapping[str, Any], name: str, source: str) -> str:
    value = table.get(name)
    if isinstance(value, str) and (text := value.strip()) and is_header_value(text):
        return text
    raise KeyUnavailable(f"{name} in the JSON of {source} can't be one")


def _expiry(table: Mapping[str, Any], now: float) -> float | None:
    for name in (*_EXPIRES_IN, *_EXPIRES, *_LOCAL_EXPIRES):
        found = read_time(table.get(name), now, is_local=name in _LOCAL_EXPIRES)
        if found is not None:
            return found
    return None


def read_time(value: Any, now: float, *, is_local: bool = False) -> float | None:
    """Unix seconds of a time: seconds from now, Unix seconds or milliseconds, or ISO 8601.

    A text without a time zone is in UTC, or in local time with `is_local`. `None` if the value is
    not a time.
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return _read_iso(value, is_local) if isinstance(value, str) else None
    if not 0 <= number < 1e15:
        return None
    if number < _YEAR_2001:
        return now + number
    return number / 1000 if number >= _MILLISECONDS else number


def _read_iso(text: str, is_local: bool) -> float | None:
    # Python takes at most six digits after the point, and Go programs write nine.
    try:
        # Old versions of the AWS CLI write `UTC` for `Z`.
        text = re.sub(r"UTC$", "Z", text.strip())
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
        if moment.tzinfo is None:
            moment = moment.astimezone() if is_local else moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
