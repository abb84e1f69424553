"""Credentials of AWS, in the order of its own tools: variables, the profile, container, machine.

Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.credentials.fetch import FetchFailed, no_fetch
from ccfallback.credentials.program import KeyUnavailable, expired_login
from ccfallback.credentials.source import (
    LOGIN_SECONDS,
    Machine,
    Resolved,
    read_time,
    resolve_json,
)
from ccfallback.wire.aws import KEY_SECONDS, short_term_key
from ccfallback.wire.credential import AwsKeys, Credential

BEARER_VARIABLE: Final = "AWS_BEARER_TOKEN_BEDROCK"

CONTAINER_HOST: Final = "http://169.254.170.2"
MACHINE_HOST: Final = "http://169.254.169.254"
MACHINE_TOKEN_SECONDS: Final = "21600"

_CONTAINER_HOSTS: Final = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""The hosts, besides loopback, to which the token of a container may go without TLS."""

_REGION: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

LOGIN_KEYS: Final = frozenset(
    {"role_arn", "sso_session", "sso_start_url", "login_session", "web_identity_token_file"}
)
"""The settings of a profile whose keys only AWS's own code can get."""


def resolve(provider: Provider, machine: Machine) -> Resolved:
    """The credential of the first source that has one. Raises `KeyUnavailable`."""
    if provider.aws.sign == "bearer" and (key := machine.variable(BEARER_VARIABLE)):
        return Resolved(Credential(key, is_token=True), f"${BEARER_VARIABLE}")
    return finish(find_keys(provider.aws.profile, machine), provider, machine)


def finish(found: Resolved, provider: Provider, machine: Machine) -> Resolved:
    """What a provider gets to see of AWS keys; any other credential stays as it is.

    It is a Bedrock key that is made of them here, or, with `sigv4`, the keys themselves.
    """
    keys = found.credential.aws
    if keys is None:
        return found
    region = provider.region or find_region(provider.aws.profile, machine)
    if provider.aws.sign == "sigv4":
        return replace(found, credential=Credential(aws=replace(keys, region=region)))
    if not region:
        raise KeyUnavailable(
            "no AWS region is known: set AWS_REGION, or "
            f"`ccfallback providers set {provider.name} --aws-region REGION`"
        )
    now, end = machine.now(), found.expires_at
    seconds = KEY_SECONDS if end is None else max(1, min(KEY_SECONDS, int(end - now)))
    key = short_term_key(keys, region=region, now=now, seconds=seconds)
    if end is None and not keys.session_token:
        # These keys do not expire, so only the key made of them does.
        end = now + seconds
    elif end is not None:
        end = min(end, now + seconds)
    return replace(found, credential=Credential(key, is_token=True), expires_at=end)


def find_region(profile: str | None, machine: Machine) -> str:
    """The region of the environment, or else of the profile; empty if there is none.

    What can't be a region is ignored, because it would become a part of a host name.
    """
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if _REGION.fullmatch(region := machine.variable(variable)):
            return region
    region = read_profile(profile_name(profile, machine), machine).get("region", "").strip()
    return region if _REGION.fullmatch(region) else ""


def region_here(profile: str | None) -> str:
    """The region that this machine names for a profile; empty if it names none."""
    try:
        return find_region(profile, Machine(os.environ, no_fetch, time))
    except (KeyUnavailable, OSError, RuntimeError):
        # Code that needs the file for a key reports what is wrong with it, or with the home.
        return ""


def profile_name(profile: str | None, machine: Machine) -> str:
    """The profile that the configuration, the environment or else AWS itself names."""
    return profile or machine.variable("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"


def read_profile(name: str, machine: Machine) -> Mapping[str, str]:
    """The settings and keys of a profile in both files; empty if neither has it."""
    settings: dict[str, str] = {}
    for place, sections in zip(files(machine), (_config_sections(name), (name,)), strict=True):
        tables = read_sections(place, machine)
        for section in sections:
            settings |= tables.get(section, {})
    return settings


def files(machine: Machine) -> tuple[Path, Path]:
    """The paths of AWS's settings and of its keys."""
    folder = machine.home / ".aws"
    return (
        machine.path("AWS_CONFIG_FILE") or folder / "config",
        machine.path("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials",
    )


def _config_sections(name: str) -> tuple[str, ...]:
    return ("default", "profile default") if name == "default" else (f"profile {name}",)


def read_sections(
    path: Path, machine: Machine, what: str = "the file of AWS"
) -> Mapping[str, Mapping[str, str]]:
    """The tables of an INI file such as AWS's, by their names. Raises `KeyUnavailable`."""
    text = machine.read(path, what)
    if text is None:
        return {}
    # Here, because few providers have a login of AWS.
    from configparser import Error, RawConfigParser

    # `[default]` is a profile like any other.
    parser = RawConfigParser(strict=False, delimiters="=", default_section="\0")
    try:
        parser.read_string(text)
        return {_section_name(name): dict(parser.items(name)) for name in parser.sections()}
    except (Error, ValueError):
        # The message of the parser quotes the line.
        raise KeyUnavailable(f"{what} ({path}) can't be read: it is malformed") from None


def _section_name(header: str) -> str:
    """The name in a header, without its quotes; AWS itself skips one whose quotes do not match."""
    try:
        return " ".join(shlex.split(header))
    except ValueError:
        return header


def find_keys(profile: str | None, machine: Machine) -> Resolved:
    """AWS keys from the first source that has some. Raises `KeyUnavailable`."""
    if (found := from_variables(machine)) is not None:
        return found
    name = profile_name(profile, machine)
    settings = read_profile(name, machine)
    failure: KeyUnavailable | None = None
    for source in (_from_profile, _from_program, _from_botocore):
        try:
            found = source(name, settings, machine)
        except KeyUnavailable as error:
            failure = failure or error
            found = None
        if found is not None:
            return found
    if failure is not None and (settings or profile or failure.command):
        raise failure
    for look in (_from_container, _from_machine):
        if (found := look(machine)) is not None:
            return found
    # Without any profile, a failure of the CLI says only that.
    raise _nothing_found(name, settings)


def _nothing_found(name: str, settings: Mapping[str, str]) -> KeyUnavailable:
    if settings.keys() & LOGIN_KEYS:
        return KeyUnavailable(
            f"AWS profile {name} needs the AWS CLI, or `pip install 'ccfallback[aws]'`"
        )
    return KeyUnavailable(
        f"no AWS credentials: no {BEARER_VARIABLE}, no AWS_ACCESS_KEY_ID, and no keys of profile "
        f"{name}; run `aws configure sso --profile {name}`, or create a Bedrock key",
    )


def from_variables(machine: Machine) -> Resolved | None:
    """The keys in the environment."""
    key = machine.variable("AWS_ACCESS_KEY_ID")
    secret = machine.variable("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    end = read_time(machine.variable("AWS_CREDENTIAL_EXPIRATION"), machine.now())
    if end is not None and end <= machine.now():
        raise KeyUnavailable("the AWS keys in the environment have expired")
    return Resolved(
        Credential(aws=AwsKeys(key, secret, machine.variable("AWS_SESSION_TOKEN"))),
        "$AWS_ACCESS_KEY_ID",
        end,
    )


def _from_profile(name: str, settings: Mapping[str, str], machine: Machine) -> Resolved | None:
    """Static keys of a profile, or those that its `credential_process` prints."""
    if settings.keys() & LOGIN_KEYS:
        return None
    source = f"AWS profile {name}"
    if (found := _static_keys(settings, source)) is not None:
        return found
    command = settings.get("credential_process", "")
    if not command:
        return None
    try:
        words = tuple(
            word.strip('"') if sys.platform == "win32" else word
            for word in shlex.split(command, posix=sys.platform != "win32")
        )
    except ValueError:
        words = ()
    if not words:
        raise KeyUnavailable(f"credential_process of {source} is malformed")
    output = machine.run(words, f"credential_process of {source}")
    if output.status:
        if output.login:
            raise _expired(name, output.login)
        raise KeyUnavailable(
            f"credential_process of {source} failed with exit status {output.status}"
        )
    return _only_keys(resolve_json(output.stdout, f"credential_process of {source}", machine.now()))


def _static_keys(settings: Mapping[str, str], source: str) -> Resolved | None:
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if not key or not secret:
        return None
    keys = AwsKeys(key, secret, settings.get("aws_session_token", ""))
    return Resolved(Credential(aws=keys), source)


def _only_keys(found: Resolved) -> Resolved:
    if found.credential.aws is None:
        raise KeyUnavailable(f"the JSON of {found.source} has no AWS keys")
    return found


def _from_program(name: str, settings: Mapping[str, str], machine: Machine) -> Resolved | None:
    """The keys that the AWS CLI gives, whatever the profile is."""
    aws = machine.find_program("aws")
    if aws is None:
        return None
    command = (aws, "configure", "export-credentials", "--profile", name, "--format", "process")
    output = machine.run(command, "aws")
    if output.status:
        if output.login:
            raise _expired(name, output.login)
        raise KeyUnavailable(
            f"the AWS CLI has no credentials of profile {name} (exit status {output.status}); see "
            f"`aws sts get-caller-identity --profile {name}`"
        )
    found = resolve_json(output.stdout, "aws configure export-credentials", machine.now())
    return replace(_only_keys(found), source=f"AWS profile {name}, by the AWS CLI")


def _expired(name: str, command: str) -> KeyUnavailable:
    if command.startswith("aws") and shlex.quote(name) == name:
        command += f" --profile {name}"
    return expired_login(f"the login of AWS profile {name}", command)


def _from_botocore(name: str, settings: Mapping[str, str], machine: Machine) -> Resolved | None:
    """The keys that botocore gives, if the optional extra `aws` is installed."""
    if not settings.keys() & LOGIN_KEYS and not machine.variable("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return None
    try:
        # Only here: its import takes 0.3 s, and most users do not have it.
        from importlib import import_module

        session_module: Any = import_module("botocore.session")
        exceptions: Any = import_module("botocore.exceptions")
    except ImportError:
        return _static_keys(settings, f"AWS profile {name}")
    try:
        session = session_module.Session(profile=name if settings else None)
        credentials = session.get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
    except (exceptions.BotoCoreError, exceptions.ClientError, OSError, ValueError) as error:
        kind = type(error).__name__
        if "SSO" in kind or "Token" in kind or "Login" in kind:
            raise _expired(name, "aws sso login") from None
        raise KeyUnavailable(f"botocore has no keys of AWS profile {name}: {kind}") from None
    end = getattr(credentials, "_expiry_time", None)
    return Resolved(
        Credential(aws=AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or "")),
        f"AWS profile {name}, by botocore",
        None if end is None else end.timestamp(),
    )


def _from_container(machine: Machine) -> Resolved | None:
    """The keys that the container service gives to a task."""
    relative = machine.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = (
        CONTAINER_HOST + relative
        if relative.startswith("/")
        else machine.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    )
    if not url:
        return None
    if not _may_have_token(url):
        raise KeyUnavailable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of this machine"
        )
    token = machine.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    if path := machine.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = (machine.read(Path(path), "the token of the container") or "").strip()
    headers = {"Accept": "application/json"} | ({"Authorization": token} if token else {})
    source = "the AWS container service"
    try:
        reply = machine.fetch("GET", url, headers, seconds=LOGIN_SECONDS / 3, direct=True)
    except FetchFailed as error:
        raise KeyUnavailable(f"{source} gave no keys: {error}") from None
    if reply.status != 200:
        raise KeyUnavailable(f"{source} gave no keys: it answered {reply.status}")
    return _only_keys(resolve_json(reply.body, source, machine.now()))


def _may_have_token(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https" or host == "localhost" or host in _CONTAINER_HOSTS:
            return True
        return parts.scheme == "http" and ip_address(host).is_loopback
    except ValueError:
        return False


def _from_machine(machine: Machine) -> Resolved | None:
    """The keys of the role of this virtual machine (IMDSv2)."""
    if machine.variable("AWS_EC2_METADATA_DISABLED").lower() == "true":
        return None
    host = (machine.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") or MACHINE_HOST).rstrip("/")
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": MACHINE_TOKEN_SECONDS}
    token = machine.ask_metadata(f"{host}/latest/api/token", lifetime, method="PUT")
    if token is None:
        return None
    headers = {"X-aws-ec2-metadata-token": token.decode("latin-1").strip()}
    url = f"{host}/latest/meta-data/iam/security-credentials/"
    listed = (machine.ask_metadata(url, headers) or b"").decode("utf-8", "replace").split()
    if not listed:
        return None
    keys = machine.ask_metadata(url + quote(listed[0], safe=""), headers)
    if keys is None:
        return None
    return _only_keys(resolve_json(keys, "the EC2 instance metadata", machine.now()))
