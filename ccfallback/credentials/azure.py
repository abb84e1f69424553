"""A login to Microsoft Azure, by its program `az`."""

from typing import Final

from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.credentials.program import KeyUnavailable, failed_login
from ccfallback.credentials.source import Machine, Resolved, resolve_json

SCOPE: Final = "https://cognitiveservices.azure.com/.default"
"""What the token is for: Azure AI services, Microsoft Foundry included."""

LOGIN: Final = "az login"


def resolve(provider: Provider, machine: Machine) -> Resolved:
    """The token of the login. Raises `KeyUnavailable`."""
    az = machine.find_program("az")
    if az is None:
        raise KeyUnavailable(
            "no Azure login: the program az is not installed; install the Azure CLI and run "
            f"`{LOGIN}`, or give the provider an api_key",
            LOGIN,
        )
    command = (az, "account", "get-access-token", "--scope", SCOPE, "-o", "json")
    output = machine.run(command, "az")
    if output.status:
        raise failed_login("az", output, "the Azure login", LOGIN)
    found = resolve_json(output.stdout, "az", machine.now())
    return replace(found, credential=replace(found.credential, is_token=True))
