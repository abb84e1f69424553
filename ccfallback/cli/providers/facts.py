"""What this machine already has of use: variables, and the files of AWS, Google, Azure and Claude.

Only files are read. No program is run and nothing is sent.
"""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from ccfallback.cli.doctor.context import MANAGED
from ccfallback.credentials import KeyUnavailable, Machine, aws, google
from ccfallback.credentials.fetch import no_fetch
from ccfallback.credentials.source import decode_table
from ccfallback.redact import mask_arguments

T = TypeVar("T")

_PROGRAMS: Final = ("aws", "gcloud", "az")
_LIBRARIES: Final = {"aws": "botocore", "gcloud": "google.auth"}
"""The libraries that do the work of a program."""

_GCLOUD_NAME: Final = re.compile(r"[a-z][-a-z0-9]{0,62}")


class Value(NamedTuple):
    """A value that was found, and where."""

    text: str
    source: str

    @property
    def is_exported(self) -> bool:
        """Whether it is in the environment, where a server that starts here finds it, too."""
        return self.source.startswith("$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found. The `repr` shows no value: some are secrets."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    claude: Mapping[str, Value] = field(default_factory=dict, repr=False)
    """The variables that Claude Code's own settings define, each with its file."""
    export_command: str = field(default="", repr=False)
    """The program that gives Claude Code AWS credentials: its setting `awsCredentialExport`."""
    refresh_command: str = field(default="", repr=False)
    """The program that renews them: its setting `awsAuthRefresh`, without its secrets."""
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """AWS profiles by name, with their settings and keys."""
    sessions: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """The SSO sessions of AWS by name."""
    logins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The cached logins of AWS by the name of their profile."""
    google: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The file of Google's Application Default Credentials."""
    google_problem: str = ""
    gcloud: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`[core]` of the active configuration of gcloud."""
    has_azure_login: bool = False
    programs: frozenset[str] = frozenset()
    """The programs of the clouds that are installed, or a library that replaces them."""
    now: float = 0.0
    unreadable: tuple[str, ...] = ()
    """Why files could not be read."""

    def variable(self, *names: str) -> Value | None:
        """The first of these variables that is set: in the environment, or by Claude Code.

        A value with control characters, which a terminal would obey, counts as none.
        """
        found = [Value(self.environ.get(name, "").strip(), f"${name}") for name in names]
        found += (self.claude[name] for name in names if name in self.claude)
        return next((value for value in found if value.text and value.text.isprintable()), None)

    def is_on(self, name: str) -> Value | None:
        """The variable, if it is a switch that is on, as Claude Code reads switches."""
        value = self.variable(name)
        is_on = value is not None and value.text.lower() in ("1", "true", "yes", "on")
        return value if is_on else None


def read_facts(
    environ: Mapping[str, str], now: Callable[[], float], managed: Path | None = None
) -> Facts:
    """Read everything; what can't be read is named in `unreadable`.

    `managed` is the file with Claude Code's settings of the user's organization.
    """
    reader = _Reader(Machine(environ, no_fetch, now))
    own = reader.machine.path("CLAUDE_CONFIG_DIR") or reader.machine.home / ".claude"
    claude: dict[str, Value] = {}
    settings: dict[str, Any] = {}
    managed = MANAGED.get(sys.platform, MANAGED["linux"]) if managed is None else managed
    # Not those of a project: the author of a repository could name a program there.
    for path in (own / "settings.json", managed):
        table = reader.json(path, "Claude Code's settings")
        settings |= table
        claude |= _variables(table, reader.show(path))
    # Claude Code's settings may name the profile or the files.
    merged = {**{name: value.text for name, value in claude.items()}, **environ}
    reader.machine = Machine(merged, no_fetch, now)
    profiles, sessions = reader.aws()
    google_file, google_problem = reader.google()
    return Facts(
        environ=environ,
        claude=claude,
        export_command=_text(settings, "awsCredentialExport"),
        refresh_command=_mask_command(_text(settings, "awsAuthRefresh")),
        profiles=profiles,
        sessions=sessions,
        logins={name: reader.aws_login(table) for name, table in profiles.items()},
        google=google_file,
        google_problem=google_problem,
        gcloud=reader.gcloud(),
        has_azure_login=reader.has_azure_login(),
        programs=frozenset(filter(reader.can_use, _PROGRAMS)),
        now=now(),
        unreadable=tuple(dict.fromkeys(reader.unreadable)),
    )


def _variables(settings: Mapping[str, Any], path: str) -> dict[str, Value]:
    table = settings.get("env")
    rows = table.items() if isinstance(table, dict) else ()
    return {
        name: Value(value.strip(), f"{name} in {path}")
        for name, value in rows
        if isinstance(value, str)
    }


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    return value.strip() if isinstance(value, str) else ""


def _mask_command(text: str) -> str:
    """A command for a message; empty if it can't be shown."""
    try:
        words = shlex.split(text)
    except ValueError:
        return ""
    masked = mask_arguments(words)
    text = text if masked == words else " ".join(masked)
    return text if text.isprintable() else ""


class _Reader:
    """Reads files, and notes which could not be read."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.unreadable: list[str] = []

    def show(self, path: Path) -> str:
        """A path for messages, short where it is in the home directory."""
        try:
            return f"~/{path.relative_to(self.machine.home).as_posix()}"
        except ValueError:
            return str(path)

    def _try(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except KeyUnavailable as error:
            self.unreadable.append(str(error))
            return otherwise

    def json(self, path: Path, what: str) -> Mapping[str, Any]:
        """The members of a JSON file; none if there is no file."""

        def read() -> Mapping[str, Any]:
            text = self.machine.read(path, what)
            return {} if text is None else decode_table(text, f"{what} ({path})")

        return self._try(read, {})

    def ini(self, path: Path, what: str) -> Mapping[str, Mapping[str, str]]:
        """The tables of an INI file; none if there is no file."""
        return self._try(lambda: aws.read_sections(path, self.machine, what), {})

    def aws(self) -> tuple[dict[str, Mapping[str, str]], dict[str, Mapping[str, str]]]:
        """The profiles and the SSO sessions."""
        profiles: dict[str, Mapping[str, str]] = {}
        sessions: dict[str, Mapping[str, str]] = {}
        settings, keys = (self.ini(path, "the file of AWS") for path in aws.files(self.machine))
        for section, table in settings.items():
            kind, _, name = section.partition(" ")
            if section == "default" or (kind == "profile" and name):
                name = name or section
                profiles[name] = {**profiles.get(name, {}), **table}
            elif kind == "sso-session":
                sessions[name] = table
        for name, table in keys.items():
            profiles[name] = {**profiles.get(name, {}), **table}
        return {name: table for name, table in profiles.items() if name.isprintable()}, sessions

    def aws_login(self, profile: Mapping[str, str]) -> Mapping[str, Any]:
        """The cached login of a profile; empty if it has none."""
        folder = self.machine.home / ".aws"
        if key := profile.get("sso_session") or profile.get("sso_start_url"):
            name = sha1(key.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
            return self.json(folder / "sso" / "cache" / f"{name}.json", "the login of AWS")
        if key := profile.get("login_session"):
            folder = self.machine.path("AWS_LOGIN_CACHE_DIRECTORY") or folder / "login" / "cache"
            name = sha256(key.encode("utf-8", "replace")).hexdigest()
            return self.json(folder / f"{name}.json", "the login of AWS")
        return {}

    def google(self) -> tuple[Mapping[str, Any], str]:
        """The file of Google's credentials, and what is wrong with it."""
        try:
            return google.read_file(self.machine), ""
        except KeyUnavailable as error:
            return {}, str(error)

    def gcloud(self) -> Mapping[str, str]:
        """`[core]` of the active configuration of gcloud."""
        folder, what = google.find_folder(self.machine), "the file of gcloud"
        name = self.machine.variable("CLOUDSDK_ACTIVE_CONFIG_NAME")
        name = name or self._try(
            lambda: (self.machine.read(folder / "active_config", what) or "").strip(), ""
        )
        name = name or "default"
        if not _GCLOUD_NAME.fullmatch(name):
            return {}
        return self.ini(folder / "configurations" / f"config_{name}", what).get("core", {})

    def has_azure_login(self) -> bool:
        """Whether `az` is logged in."""
        folder = self.machine.path("AZURE_CONFIG_DIR") or self.machine.home / ".azure"
        return bool(self.json(folder / "azureProfile.json", "the file of az").get("subscriptions"))

    def can_use(self, program: str) -> bool:
        """Whether a program is installed, or the library that replaces it."""
        if self.machine.find_program(program) is not None:
            return True
        try:
            return program in _LIBRARIES and find_spec(_LIBRARIES[program]) is not None
        except (ImportError, ValueError):
            return False
