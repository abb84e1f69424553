"""A key that the configuration names: itself, a variable, or a program that prints it."""

from collections.abc import Mapping

from ccfallback.config.checks import clean_key, is_header_value
from ccfallback.config.model import KeySource, Provider
from ccfallback.credentials import aws
from ccfallback.credentials.program import KEY_SECONDS, KeyUnavailable, explain_failure, run
from ccfallback.credentials.source import Machine, Resolved, resolve_json
from ccfallback.redact import Secret
from ccfallback.wire.credential import Credential


def resolve(provider: Provider, machine: Machine) -> Resolved | None:
    """The key of a provider; `None` if it has none. Raises `KeyUnavailable`."""
    source = provider.key
    if source.command is not None:
        found = run_command(source.command, machine)
        return aws.finish(found, provider, machine)
    key = find_key(source, machine.environ)
    return None if key is None else Resolved(Credential(key.reveal()), "the configuration")


def find_key(source: KeySource, environ: Mapping[str, str]) -> Secret | None:
    """The key that the configuration holds or that is in a variable, the first of several.

    Raises `KeyUnavailable`.
    """
    if source.literal is not None:
        return source.literal
    if isinstance(source.env, str):
        return _from_variable(source.env, environ)
    several = source.each if source.command is None else ()
    return find_key(several[0], environ) if several else None


def _from_variable(name: str, environ: Mapping[str, str]) -> Secret:
    value = clean_key(environ.get(name, ""))
    if not value:
        state = "empty" if name in environ else "not set"
        raise KeyUnavailable(f"the environment variable {name} is {state}")
    if not is_header_value(value):
        raise KeyUnavailable(f"the value of the environment variable {name} can't be a key")
    return Secret(value)


def run_command(
    command: tuple[str, ...], machine: Machine, timeout: float = KEY_SECONDS
) -> Resolved:
    """The key or the JSON that a program prints. Raises `KeyUnavailable`."""
    # Messages name the program without its arguments, which may contain a secret.
    program = command[0]
    output = run(command, machine.environ, timeout)
    if output.status:
        raise KeyUnavailable(*explain_failure(program, output))
    if output.stdout.lstrip().startswith(b"{"):
        return resolve_json(output.stdout, program, machine.now())
    first, _, _ = output.stdout.partition(b"\n")
    try:
        value = clean_key(first.decode())
    except UnicodeDecodeError:
        raise KeyUnavailable(f"the output of {program} is not text") from None
    if not value:
        raise KeyUnavailable(f"{program} printed no key on its first line")
    if not is_header_value(value):
        raise KeyUnavailable(f"the output of {program} can't be a key")
    return Resolved(Credential(value), program)
