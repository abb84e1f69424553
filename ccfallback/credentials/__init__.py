"""Where the credential of a provider comes from: a key, or a login to AWS, Google or Azure.

`resolve` asks the sources in their order. It reads files, runs programs and sends requests, so the
server calls it in a thread. A message never contains what a program or a server said.
"""

import os
from collections.abc import Callable, Mapping
from time import time
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.credentials import aws, azure, command, google
from ccfallback.credentials.fetch import Fetch
from ccfallback.credentials.program import KeyUnavailable
from ccfallback.credentials.source import Machine, Resolved

__all__ = ["KeyUnavailable", "Machine", "Resolved", "resolve"]

LOGIN_VARIABLES: Final = (
    *(aws.BEARER_VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"),
)
"""The variables of a shell with which a user most likely chooses a login."""

_LOGINS: Final[Mapping[str, Callable[[Provider, Machine], Resolved]]] = {
    "aws": aws.resolve,
    "google": google.resolve,
    "azure": azure.resolve,
}


def describe_login(provider: Provider, environ: Mapping[str, str]) -> str:
    """Where `resolve` looks first for the login of a provider, without asking anything."""
    if provider.auth == "azure":
        return "Azure login"
    if provider.auth == "google":
        named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        return "$GOOGLE_APPLICATION_CREDENTIALS" if named else "Google login"
    names = (aws.BEARER_VARIABLE,) if provider.aws.sign == "bearer" else ()
    found = (name for name in (*names, "AWS_ACCESS_KEY_ID") if environ.get(name))
    profile = provider.aws.profile or environ.get("AWS_PROFILE") or "default"
    return next((f"${name}" for name in found), f"AWS profile {profile}")


def resolve(
    provider: Provider,
    environ: Mapping[str, str] = os.environ,
    *,
    fetch: Fetch,
    now: Callable[[], float] = time,
) -> Resolved | None:
    """The provider's own credential; `None` if the configuration names none.

    A key that the configuration names has priority over a login. Raises `KeyUnavailable`.
    """
    machine = Machine(environ, fetch, now)
    if provider.key or provider.auth == "key":
        return command.resolve(provider, machine)
    return _LOGINS[provider.auth](provider, machine)
