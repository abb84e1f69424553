"""State that the server and the commands share."""

from typing import TYPE_CHECKING, TypeVar

import msgspec

from ccfallback import files
from ccfallback.errors import StateError

if TYPE_CHECKING:
    from ccfallback.paths import Paths
    from ccfallback.state.store import StateStore

T = TypeVar("T")


def open_store(
    paths: "Paths", url: str = "", *, patience: float = 10.0, synced_later: bool = False
) -> "StateStore":
    """The store that keeps the breaker state of an installation: at the URL, or else in the file.

    `patience` is how many seconds an update waits for another process. With `synced_later` the
    caller, a server, syncs the store within a second after an update. Raises `StateError` if the
    URL can't be used.
    """
    from ccfallback.state.file import StateFile

    file = StateFile(paths.state, patience=patience, synced_later=synced_later)
    if not url:
        return file
    try:
        from ccfallback.state.redis_store import RedisStore
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise StateError(
            "[state] url needs the package redis",
            "in the clone: `pipx install --force '.[redis]'`, or in its virtual environment "
            "`pip install 'ccfallback[redis]'`",
        ) from None
    return RedisStore(url, file, watches=synced_later)


class _Model(msgspec.Struct, rename="camel"):
    cooldown_until: float | None = None


class _Provider(msgspec.Struct):
    models: dict[str, _Model] = {}


class _State(msgspec.Struct):
    providers: dict[str, _Provider] = {}


def read_quickly(paths: "Paths", kind: type[T]) -> T:
    """A part of the state file; `kind` is a struct, which is empty if the file can't be read."""
    try:
        return msgspec.json.decode(files.read_regular(paths.state), type=kind)
    except (OSError, ValueError, RecursionError):
        return kind()


def model_cooldowns(paths: "Paths", model: str) -> dict[str, float]:
    """When the cooldown of this model ends at each provider that has a breaker for it.

    This is for the status line, which runs after every message: it must not import the store.
    """
    state = read_quickly(paths, _State)
    return {
        name: (provider.models[model].cooldown_until or 0.0) / 1000
        for name, provider in state.providers.items()
        if model in provider.models
    }
