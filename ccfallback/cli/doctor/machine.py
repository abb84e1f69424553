"""The program and the server: which versions, and who has the port."""

import os
import platform
import socket
import sys
from collections.abc import Iterator

from ccfallback import __version__
from ccfallback.addresses import is_loopback
from ccfallback.cli.doctor.case import DoctorContext, Finding, broken, doubtful, good


def version(case: DoctorContext) -> Iterator[Finding]:
    """Which program this is, and whether the running server is the same."""
    about = f"ccfallback {__version__}, Python {platform.python_version()} ({sys.executable})"
    server = case.server
    if server is not None and server.version != __version__:
        message = f"{about}; the running server (pid {server.pid}) is {server.version}"
        yield doubtful("version", message, "restart the server")
    else:
        yield good("version", about)


def port(case: DoctorContext) -> Iterator[Finding]:
    """Is there a server, and if not, could there be one."""
    from ccfallback.cli.running_server import describe_server_at

    config = case.config
    if case.server is not None:
        message = f"a server answers at {case.server.url} (pid {case.server.pid})"
        if case.configured_url not in (None, case.server.url):
            message += f"; the configuration's {case.configured_url} is for its next start"
        yield good("port", message)
    if config is None or case.configured_url is None:
        return
    if case.server is not None and case.server.url == case.configured_url:
        return
    host, number = config.server.host, config.server.port
    if not is_loopback(host) and not config.tokens:
        yield broken(
            "port",
            f"server.host is {host}, which other machines reach, and there is no access token: "
            "`serve` refuses to start",
            "`ccfallback tokens add`, or `ccfallback config set server.host 127.0.0.1`",
        )
    why = _taken(host, number)
    if why is None:
        if case.server is None:
            yield good("port", f"no server runs; {host} port {number} is free for one")
        return
    who = describe_server_at(case.configured_url) or "another program"
    yield broken(
        "port",
        f"{host} port {number} can't be had ({why}): {who} has it",
        "stop that one, or take another port: `ccfallback config set server.port PORT`",
    )


def _taken(host: str, number: int) -> str | None:
    """Why an address can't be listened on; it is only tried."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name == "posix":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None
