"""The credentials of the clouds, as far as files and variables tell. Pure: facts in, logins out."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from shlex import quote
from typing import Any, Final
from urllib.parse import parse_qs

from ccfallback.cli.providers.facts import Facts, Value
from ccfallback.credentials import aws, google
from ccfallback.credentials.source import read_time

AWS_REGION: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""The variables with the region."""


@dataclass(frozen=True, slots=True)
class Login:
    """A credential of a cloud, as far as files and variables tell."""

    what: str
    """What it is, in a few words."""
    problem: str = ""
    """Why it would not work now; empty if it looks ready."""
    renew: str = ""
    """The command that solves the problem."""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Settings of a provider that uses it, by dotted key."""
    region: Value | None = None
    """The only region in which it is valid."""
    note: str = ""


def read_key(name: str, value: Value) -> Login:
    """The key in a variable; one that only Claude Code's settings hold is copied."""
    if value.is_exported:
        return Login(value.source, given={"api_key_env": name})
    file = value.source.partition(" in ")[2]
    note = f"its key is copied from {file}"
    return Login(value.source, given={"api_key": value.text}, note=note)


def find_aws(facts: Facts, given: Mapping[str, Any], sign: str) -> Login | None:
    """The AWS credential that a provider would use, in the order in which they are looked for."""
    key = facts.variable(aws.BEARER_VARIABLE) if sign != "sigv4" else None
    if key is not None and (key.is_exported or not given.get("aws.profile")):
        return _bedrock_key(key, facts)
    environ = facts.environ
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        end = read_time(environ.get("AWS_CREDENTIAL_EXPIRATION"), facts.now)
        return Login("$AWS_ACCESS_KEY_ID", *_end(end, facts, "the AWS keys have"))
    logins = _profiles(facts)
    name = choose_profile(facts, given)
    login = logins.get(name or "")
    export = facts.export_command
    if export and (login is None or login.problem):
        what = "awsCredentialExport of Claude Code"
        return Login(what, given={"api_key_command": ["sh", "-c", export]})
    if name is None:
        return None
    if login is None:
        what, renew = f"AWS profile {name}", f"aws configure sso --profile {quote(name)}"
        return Login(what, f"{what} has no credentials", renew, {"aws.profile": name})
    others = [each for each in logins if each != name]
    note = f"other AWS profiles: {', '.join(others)} (--aws-profile)" if others else ""
    return replace(login, note=note, given={} if name == "default" else {"aws.profile": name})


def choose_profile(facts: Facts, given: Mapping[str, Any]) -> str | None:
    """The AWS profile that the user names, or else the first that looks ready, or has credentials.

    `None` if there is none.
    """
    if name := given.get("aws.profile"):
        return str(name)
    if (named := facts.variable("AWS_PROFILE", "AWS_DEFAULT_PROFILE")) is not None:
        return named.text
    logins = _profiles(facts)
    names = sorted(logins, key=lambda name: (bool(logins[name].problem), name != "default"))
    return next(iter(names), None)


def find_region(facts: Facts, given: Mapping[str, Any]) -> Value | None:
    """The region of the AWS profile."""
    name = choose_profile(facts, given)
    region = facts.profiles.get(name or "default", {}).get("region", "")
    return Value(region, f"AWS profile {name or 'default'}") if region else None


def _profiles(facts: Facts) -> dict[str, Login]:
    """The profiles that have credentials."""
    found = ((name, _profile(name, facts, ())) for name in facts.profiles)
    return {name: login for name, login in found if login is not None}


def _bedrock_key(value: Value, facts: Facts) -> Login:
    """A Bedrock key; a short-term one tells its region and its end."""
    login = read_key(aws.BEARER_VARIABLE, value)
    if value.is_exported:
        # The login to AWS looks at the variable first.
        login = replace(login, given={})
    found = read_short_term_key(value.text)
    if found is None:
        return login
    region, end = found
    problem, renew = _end(end, facts, "the Bedrock key has")
    return replace(
        login, problem=problem, renew=renew, region=Value(region, "the Bedrock key itself")
    )


_KEY_START: Final = "bedrock-api-key-"


def read_short_term_key(key: str) -> tuple[str, float] | None:
    """The region and the end of a short-term Bedrock key; `None` for any other key."""
    if not key.startswith(_KEY_START):
        return None
    try:
        text = b64decode(key.removeprefix(_KEY_START), validate=True).decode("ascii")
        query = parse_qs(text.partition("?")[2])
        start = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        region = query["X-Amz-Credential"][0].split("/")[2]
        return region, start.timestamp() + int(query["X-Amz-Expires"][0])
    except (ValueError, LookupError, OverflowError):
        return None


def _end(end: float | None, facts: Facts, what: str) -> tuple[str, str]:
    """The problem and the command for a credential with this end."""
    if end is None or end > facts.now:
        return "", ""
    return f"{what} expired", facts.refresh_command


def _profile(name: str, facts: Facts, seen: tuple[str, ...]) -> Login | None:
    """The credentials of an AWS profile; `None` if it has none."""
    settings = facts.profiles.get(name, {})
    what = f"AWS profile {name}"
    needs = (
        ""
        if "aws" in facts.programs
        else "it needs the AWS CLI, or `pip install 'ccfallback[aws]'`"
    )
    until = _login_end(facts.logins.get(name, {}), facts.now)
    profile = quote(name)
    if "sso_session" in settings or "sso_start_url" in settings:
        return _login(f"{what} (SSO)", until, facts, f"aws sso login --profile {profile}", needs)
    if "login_session" in settings:
        return _login(f"{what} (login)", until, facts, f"aws login --profile {profile}", needs)
    if "role_arn" in settings:
        source = settings.get("source_profile", "")
        below = None
        if source and source != name and source not in seen:
            below = _profile(source, facts, (*seen, name))
            if below is None:
                return Login(f"{what} (role)", f"its source_profile {source} has no credentials")
        problem, renew = ("", "") if below is None else (below.problem, below.renew)
        return Login(f"{what} (role)", problem or needs, renew)
    if "web_identity_token_file" in settings:
        return Login(f"{what} (web identity)", needs)
    if settings.get("aws_access_key_id") and settings.get("aws_secret_access_key"):
        names = ("x_security_token_expires", "aws_expiration", "expiration")
        end = next((t for n in names if (t := read_time(settings.get(n), facts.now))), None)
        return Login(what, *_end(end, facts, "its keys have"))
    return Login(what) if settings.get("credential_process") else None


def _login_end(login: Mapping[str, Any], now: float) -> float:
    """When a cached login ends; one that renews itself lasts as long as it can do so."""
    token = login.get("accessToken")
    table = token if isinstance(token, Mapping) else login
    ends = [read_time(table.get("expiresAt"), now) or 0.0]
    if login.get("refreshToken"):
        ends.append(read_time(login.get("registrationExpiresAt"), now) or now + 1.0)
    return max(ends)


def _login(what: str, end: float, facts: Facts, renew: str, needs: str) -> Login:
    if end <= facts.now:
        return Login(what, "the login has expired" if end else "there is no login", renew)
    return Login(what, needs)


def find_google(facts: Facts, _given: Mapping[str, Any], _sign: str) -> Login | None:
    """The Google login."""
    what = "Google login"
    if facts.google_problem:
        return Login(what, facts.google_problem, google.LOGIN)
    kind = facts.google.get("type")
    if kind == "authorized_user":
        if isinstance(facts.google.get("refresh_token"), str):
            return Login(what)
        return Login(what, "the login is incomplete", google.LOGIN)
    if facts.google:
        needs = "it needs gcloud, or `pip install 'ccfallback[google]'`"
        shown = str(kind).replace("_", " ") if isinstance(kind, str) and len(kind) < 40 else "other"
        return Login(f"Google credentials ({shown})", "" if "gcloud" in facts.programs else needs)
    if facts.gcloud.get("account"):
        return Login("gcloud", "gcloud has a login, but not for other programs", google.LOGIN)
    return None


def find_azure(facts: Facts, _given: Mapping[str, Any], _sign: str) -> Login | None:
    """The login of `az`."""
    if not facts.has_azure_login:
        return None
    return Login("Azure login", "" if "az" in facts.programs else "it needs the Azure CLI")


LOGINS: Final[Mapping[str, Callable[[Facts, Mapping[str, Any], str], Login | None]]] = {
    "aws": find_aws,
    "google": find_google,
    "azure": find_azure,
}
