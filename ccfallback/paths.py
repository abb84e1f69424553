"""The paths of all files: from an option, else from a variable, else the system's default.

The variables that name files of certificates are here too: `service` passes them on without TLS.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

APP: Final = "ccfallback"

CERTIFICATE_FILE_VARIABLES: Final = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
"""Variables that name a file of certificates in PEM format."""

CERTIFICATE_FOLDER_VARIABLE: Final = "SSL_CERT_DIR"
"""The variable that names folders of certificates, as `openssl rehash` makes them."""

CERTIFICATE_VARIABLES: Final = (*CERTIFICATE_FILE_VARIABLES, CERTIFICATE_FOLDER_VARIABLE)
"""Every variable that adds certificates of authorities."""


class Paths(NamedTuple):
    """The files of one installation."""

    config: Path
    state: Path
    log: Path

    @property
    def server(self) -> Path:
        """Where a running server writes its address."""
        return self.state.with_name("server.json")

    def private_server(self, pid: int) -> Path:
        """Where the proxy of a `run` in that process writes its address."""
        return self.state.with_name(f"server-run-{pid}.json")

    @property
    def private_servers(self) -> list[Path]:
        """The files of all proxies of a `run`, those included that a killed one left behind."""
        # Imported here, because few commands need it.
        from glob import escape, glob

        # Unlike `Path.glob`, this finds nothing in a folder that this user may not see.
        pattern = f"{escape(str(self.state.parent))}/server-run-*.json"
        return sorted(map(Path, glob(pattern)))  # noqa: PTH207  (see above)

    @property
    def signatures(self) -> Path:
        """Which provider signed which thinking, in hashes."""
        return self.state.with_name("signers.json")


def resolve(
    config: Path | None = None,
    state: Path | None = None,
    log: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Paths:
    """The files to use; the arguments are the options of the command line."""
    return Paths(
        config=_choose(config, environ.get("CCFALLBACK_CONFIG")) or _default_config(),
        state=_choose(state, environ.get("CCFALLBACK_STATE")) or _default_state(),
        log=_choose(log, environ.get("CCFALLBACK_LOG_FILE")) or _default_log(),
    )


def _choose(option: Path | None, variable: str | None) -> Path | None:
    if option is not None:
        return option.expanduser()
    return Path(variable).expanduser() if variable else None


def _default_config() -> Path:
    folder = _linux_folder("XDG_CONFIG_HOME", ".config")
    if folder is None:
        from platformdirs import user_config_path

        folder = user_config_path(APP)
    return folder / "config.toml"


def _default_state() -> Path:
    folder = _linux_folder("XDG_STATE_HOME", ".local/state")
    if folder is None:
        from platformdirs import user_state_path

        folder = user_state_path(APP)
    return folder / "state.json"


def _default_log() -> Path:
    folder = _linux_folder("XDG_STATE_HOME", ".local/state")
    if folder is None:
        from platformdirs import user_log_path

        return user_log_path(APP) / "ccfallback.jsonl"
    return folder / "log" / "ccfallback.jsonl"


def _linux_folder(variable: str, usual: str) -> Path | None:
    """Our folder on Linux, as platformdirs says it, whose import takes longer than this module.

    `None` on other systems, and where the environment is unusual.
    """
    home, named = os.environ.get("HOME", ""), os.environ.get(variable, "")
    if sys.platform != "linux" or "ANDROID_ROOT" in os.environ or not home.startswith("/"):
        return None
    if named and (not named.startswith("/") or named != named.strip()):
        return None
    return (Path(named) if named else Path(home, usual)) / APP
