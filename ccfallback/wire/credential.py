"""What an attempt shows to a provider so that the provider knows the account."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Keys that sign requests to AWS. The `repr` shows no secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    """Belongs to temporary keys; empty for keys that never expire."""
    region: str = ""
    """The region for which they sign, where the machine knows one."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key, or AWS keys that sign the request instead. The `repr` shows no secret."""

    key: str = field(default="", repr=False)
    """The value of the provider's header for its key; empty if there is none."""
    is_token: bool = False
    """Whether the key is the token of a login, which always goes into `Authorization`."""
    aws: AwsKeys | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further headers that belong to it, such as `x-goog-user-project`."""
    project: str = ""
    """The Google Cloud project that the machine names, if the configuration names none."""
