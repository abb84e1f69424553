"""What an attempt shows to a provider so that the provider knows the account."""

from collections.abc import Mapping

import msgspec

from ccfallback.structs import Discreet


class AwsKeys(Discreet, msgspec.Struct, frozen=True):
    """Keys that sign requests to AWS. The `repr` shows no secret."""

    SHOWN = ("access_key_id", "region")

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    """Belongs to temporary keys; empty for keys that never expire."""
    region: str = ""
    """The region for which they sign, where the machine knows one."""


class Credential(Discreet, msgspec.Struct, frozen=True):
    """A key, or AWS keys that sign the request instead. The `repr` shows no secret."""

    SHOWN = ("is_token", "aws", "project")

    key: str = ""
    """The value of the provider's header for its key; empty if there is none."""
    is_token: bool = False
    """Whether the key is the token of a login, which always goes into `Authorization`."""
    aws: AwsKeys | None = None
    headers: Mapping[str, str] = {}
    """Further headers that belong to it, such as `x-goog-user-project`."""
    project: str = ""
    """The Google Cloud project that the machine names, if the configuration names none."""
