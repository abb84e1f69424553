"""Application Default Credentials of Google Cloud: a file, the program `gcloud`, or the machine.

Source: https://google.aip.dev/auth/4110 and the documentation of `gcloud auth`.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace

from ccfallback.config.checks import is_header_value
from ccfallback.config.model import Provider
from ccfallback.credentials.fetch import FetchFailed
from ccfallback.credentials.program import KeyUnavailable, expired_login, failed_login
from ccfallback.credentials.source import Machine, Resolved, decode_table, resolve_json
from ccfallback.wire.credential import Credential

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
LOGIN: Final = "gcloud auth application-default login"

METADATA: Final = "the Google metadata server"

PROGRAM_LIFETIME: Final = 1800.0
"""Seconds for which a token of `gcloud` is used, which does not say when it ends. New ones last an
hour."""

_PROJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,127}")

PROJECT_VARIABLES: Final = (
    "GOOGLE_CLOUD_PROJECT",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "GCLOUD_PROJECT",
    "CLOUDSDK_CORE_PROJECT",
)


def resolve(provider: Provider, machine: Machine) -> Resolved:
    """A token from the first source that has one. Raises `KeyUnavailable`."""
    file = read_file(machine)
    source = _from_user if file.get("type") == "authorized_user" else _from_other
    found = source(file, machine)
    quota = machine.variable("GOOGLE_CLOUD_QUOTA_PROJECT") or file.get("quota_project_id")
    headers = {}
    if isinstance(quota, str) and quota and is_header_value(quota):
        headers["x-goog-user-project"] = quota
    project = ""
    if provider.google.project is None and "/projects/" not in provider.base_url:
        project = find_project(machine, on_google=found.source == METADATA) or ""
    credential = replace(found.credential, is_token=True, headers=headers, project=project)
    return replace(found, credential=credential)


def find_file(machine: Machine) -> tuple[Path, bool]:
    """The path of the file with the credentials, and whether a variable names it."""
    if named := machine.path("GOOGLE_APPLICATION_CREDENTIALS"):
        return named, True
    return find_folder(machine) / "application_default_credentials.json", False


def find_folder(machine: Machine) -> Path:
    """The folder of `gcloud`'s own files."""
    if folder := machine.path("CLOUDSDK_CONFIG"):
        return folder
    if sys.platform == "win32":
        return (machine.path("APPDATA") or machine.home) / "gcloud"
    return machine.home / ".config" / "gcloud"


def read_file(machine: Machine) -> Mapping[str, Any]:
    """The members of the file with the credentials; none without a file.

    Raises `KeyUnavailable`, also if a variable names a file that does not exist.
    """
    path, is_named = find_file(machine)
    text = machine.read(path, "the file of Google's credentials")
    if text is None:
        if is_named:
            raise KeyUnavailable(
                f"the file that GOOGLE_APPLICATION_CREDENTIALS names ({path}) does not exist"
            )
        return {}
    return decode_table(text, f"the file of Google's credentials ({path})")


def _from_user(file: Mapping[str, Any], machine: Machine) -> Resolved:
    """A new token for a user's login."""
    names = ("client_id", "client_secret", "refresh_token")
    if not all(isinstance(file.get(name), str) and file[name] for name in names):
        raise expired_login("the Google login", LOGIN)
    form = {"grant_type": "refresh_token"} | {name: file[name] for name in names}
    url = file.get("token_uri")
    source = "Google's Application Default Credentials"
    try:
        reply = machine.fetch(
            "POST",
            url if isinstance(url, str) and url else TOKEN_URL,
            {"Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form).encode(),
        )
    except FetchFailed as error:
        raise KeyUnavailable(f"Google's token endpoint gave no token: {error}") from None
    if reply.status in (400, 401):
        # `invalid_grant`, also for a login that has to be confirmed again (`invalid_rapt`).
        raise expired_login("the Google login", LOGIN)
    if reply.status != 200:
        raise KeyUnavailable(f"Google's token endpoint answered {reply.status}")
    return resolve_json(reply.body, source, machine.now())


def _from_other(file: Mapping[str, Any], machine: Machine) -> Resolved:
    """A token for any other file, or without a file."""
    failure: KeyUnavailable | None = None
    for source in (_from_program, _from_library):
        try:
            found = source(file, machine)
        except KeyUnavailable as error:
            failure = failure or error
            found = None
        if found is not None:
            return found
    if not file and (found := _from_metadata(machine)) is not None:
        return found
    if failure is not None:
        raise failure
    if file:
        raise KeyUnavailable(
            f"Google credentials of the type {str(file.get('type'))[:40]!r} need gcloud, or "
            "`pip install 'ccfallback[google]'`"
        )
    raise KeyUnavailable(f"no Google login: run `{LOGIN}`", LOGIN)


def _from_program(_file: Mapping[str, Any], machine: Machine) -> Resolved | None:
    gcloud = machine.find_program("gcloud")
    if gcloud is None:
        return None
    command = (gcloud, "auth", "application-default", "print-access-token", "--quiet")
    output = machine.run(command, "gcloud")
    if output.status:
        raise failed_login("gcloud", output, "the Google login", LOGIN)
    now = machine.now()
    if output.stdout.lstrip().startswith(b"{"):
        return resolve_json(output.stdout, "gcloud", now)
    token = output.stdout.decode("ascii", "replace").strip()
    if not token.isascii() or not token.isprintable() or len(token.split()) != 1:
        raise KeyUnavailable("gcloud printed something else than a token")
    return Resolved(Credential(token), "gcloud", now + PROGRAM_LIFETIME)


def _from_library(file: Mapping[str, Any], machine: Machine) -> Resolved | None:
    """A token by google-auth, if the optional extra `google` is installed."""
    if not file:
        return None
    try:
        # Only here: its import takes 0.2 s, and most users do not have it.
        from importlib import import_module

        auth: Any = import_module("google.auth")
        exceptions: Any = import_module("google.auth.exceptions")
    except ImportError:
        return None
    try:
        credentials, _ = auth.load_credentials_from_dict(dict(file), scopes=[SCOPE])
        credentials.refresh(_LibraryTransport(machine, exceptions.TransportError))
    except (exceptions.GoogleAuthError, OSError, ValueError) as error:
        kind = type(error).__name__
        raise KeyUnavailable(f"google-auth got no token: {kind}") from None
    end = credentials.expiry
    table = {"token": credentials.token, "expiry": None if end is None else f"{end.isoformat()}Z"}
    return resolve_json(msgspec.json.encode(table), "google-auth", machine.now())


class _LibraryTransport:
    """Sends the requests of google-auth; a `google.auth.transport.Request`."""

    def __init__(self, machine: Machine, error: type[Exception]) -> None:
        self._machine = machine
        self._error = error

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_more: Any,
    ) -> "_LibraryResponse":
        data = body.encode() if isinstance(body, str) else body or b""
        try:
            reply = self._machine.fetch(method, url, headers or {}, data)
        except FetchFailed as error:
            raise self._error(str(error)) from None
        return _LibraryResponse(reply.status, reply.body)


class _LibraryResponse:
    """An answer; a `google.auth.transport.Response`."""

    def __init__(self, status: int, data: bytes) -> None:
        self.status = status
        self.data = data
        self.headers: Mapping[str, str] = {}


def _metadata_url(machine: Machine, path: str) -> str | None:
    if machine.variable("NO_GCE_CHECK").lower() == "true":
        return None
    host = machine.variable("GCE_METADATA_HOST", "GCE_METADATA_ROOT") or "metadata.google.internal"
    return f"http://{host}/computeMetadata/v1/{path}"


def _ask_metadata(machine: Machine, path: str) -> bytes | None:
    url = _metadata_url(machine, path)
    return None if url is None else machine.ask_metadata(url, {"Metadata-Flavor": "Google"})


def _from_metadata(machine: Machine) -> Resolved | None:
    token = _ask_metadata(machine, "instance/service-accounts/default/token")
    if token is None:
        return None
    return resolve_json(token, METADATA, machine.now())


def find_project(machine: Machine, *, on_google: bool) -> str | None:
    """The project of the environment, the file or `gcloud`, or with `on_google` of the machine."""
    return next(filter(_PROJECT.fullmatch, _projects(machine, on_google)), None)


def _projects(machine: Machine, on_google: bool) -> Iterator[str]:
    """What may be the project, in the order of priority."""
    yield machine.variable(*PROJECT_VARIABLES)
    try:
        file = read_file(machine)
    except KeyUnavailable:
        file = {}
    yield from (str(file[name]) for name in ("project_id", "quota_project_id") if name in file)
    if (gcloud := machine.find_program("gcloud")) is not None:
        try:
            output = machine.run((gcloud, "config", "get", "project", "--quiet"), "gcloud")
        except KeyUnavailable:
            pass
        else:
            if not output.status:
                yield output.stdout.decode("utf-8", "replace").strip()
    found = _ask_metadata(machine, "project/project-id") if on_google else None
    yield (found or b"").decode("utf-8", "replace").strip()
