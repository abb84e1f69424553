"""Where the files are: an option beats a variable beats the system's default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

APP: Final = "ccfallback"


@dataclass(frozen=True)
class Paths:
    """The files of one installation."""

    config: Path
    state: Path
    log: Path

    @property
    def server(self) -> Path:
        """What a running server says of itself."""
        return self.state.with_name("server.json")


def resolve(
    config: Path | None = None,
    state: Path | None = None,
    log: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Paths:
    """The files to use; the arguments are what the command line said."""
    return Paths(
        config=_given(config, environ.get("CCFALLBACK_CONFIG")) or _default_config(),
        state=_given(state, environ.get("CCFALLBACK_STATE")) or _default_state(),
        log=_given(log, environ.get("CCFALLBACK_LOG_FILE")) or _default_log(),
    )


def _given(option: Path | None, variable: str | None) -> Path | None:
    if option is not None:
        return option.expanduser()
    return Path(variable).expanduser() if variable else None


# platformdirs is imported where a default is wanted: it costs more than the rest of start-up here.


def _default_config() -> Path:
    from platformdirs import user_config_path

    return user_config_path(APP) / "config.toml"


def _default_state() -> Path:
    from platformdirs import user_state_path

    return user_state_path(APP) / "state.json"


def _default_log() -> Path:
    from platformdirs import user_log_path

    return user_log_path(APP) / "ccfallback.jsonl"
