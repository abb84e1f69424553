"""The authorities whose certificates an upstream may have: one TLS context for every transport.

All sources count side by side, because Claude Code trusts as many: the bundle that comes with
httpx, the store of the system, the files that variables of the environment name, and
`[network] ca_file`. A source that cannot be read is skipped and reported; the others still count.
"""

import os
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ccfallback.paths import CERTIFICATE_FILE_VARIABLES, CERTIFICATE_FOLDER_VARIABLE

SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/data/data/com.termux/files/usr/etc/tls/cert.pem",
)
"""Where Debian, Fedora, RHEL, SUSE, Alpine and macOS, FreeBSD, and Termux keep their store."""

KEYCHAIN: Final = "/Library/Keychains/System.keychain"
"""Where an administrator of macOS installs the authority of a company."""

SECURITY: Final = "/usr/bin/security"
"""The program of macOS that reads keychains."""

SECURITY_SECONDS: Final = 10.0
"""How long that program may take."""

_PEM_END: Final = "-----END CERTIFICATE-----"


class RootSource(msgspec.Struct, frozen=True):
    """One place of authorities."""

    name: str
    added: int = 0
    """How many authorities it has that no place before it has."""
    problem: str = ""
    """Why it does not count; empty if it does."""


CONFIGURED: Final = "network.ca_file"


class TrustedRoots:
    """Loads the TLS context of a configuration once; safe to use from several threads."""

    def __init__(
        self,
        ca_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
        system_files: Sequence[str] = SYSTEM_FILES,
        before: "TrustedRoots | None" = None,
    ) -> None:
        """`before` counts instead if the configured file can't be read."""
        self.ca_file = ca_file
        self._before = before
        self.sources: tuple[RootSource, ...] = ()
        """Where the authorities come from, as soon as they are loaded."""
        self._environ = environ
        self._system_files = system_files
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def load(self) -> ssl.SSLContext:
        """The context for connections to upstreams. The first call reads files for up to 0.1 s."""
        with self._lock:
            if self._context is None:
                context = create_context()
                sources = [RootSource("bundled with httpx", _count(context))]
                for name, add in self._places():
                    sources.append(_add(context, name, add))
                self.sources = tuple(sources)
                is_bad = sources[-1].problem and sources[-1].name.startswith(CONFIGURED)
                if is_bad and self._before is not None:
                    context = self._before.load()
                self._before, self._context = None, context
            return self._context

    def find_problems(self) -> list[str]:
        """What is wrong with the files that the user named, without loading the other sources."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        found = [_add(context, name, add) for name, add in self._named_places()]
        return [f"{each.name}: {each.problem}" for each in found if each.problem]

    def _places(self) -> "Iterator[tuple[str, Add]]":
        yield from self._system_places()
        yield from self._named_places()

    def _system_places(self) -> "Iterator[tuple[str, Add]]":
        if sys.platform == "win32":
            yield "the system's store", lambda context: context.load_default_certs()
            return
        file = next((file for file in self._system_files if Path(file).is_file()), None)
        if file is not None:
            yield f"the system's store ({file})", _file(file)
        if sys.platform == "darwin":
            yield f"the keychain ({KEYCHAIN})", lambda context: _load_keychain(context, SECURITY)

    def _named_places(self) -> "Iterator[tuple[str, Add]]":
        for variable in CERTIFICATE_FILE_VARIABLES:
            if path := self._environ.get(variable, "").strip():
                yield f"{variable} ({path})", _file(path)
        for path in self._environ.get(CERTIFICATE_FOLDER_VARIABLE, "").split(os.pathsep):
            if path := path.strip():
                yield f"{CERTIFICATE_FOLDER_VARIABLE} ({path})", _folder(path)
        if self.ca_file is not None:
            path = str(Path(self.ca_file).expanduser())
            yield f"{CONFIGURED} ({path})", _file(path)


Add = Callable[[ssl.SSLContext], None]
"""Adds the authorities of one place to a context."""


def create_context() -> ssl.SSLContext:
    """A context that trusts the bundled authorities and verifies alike on every Python.

    From 3.13 on, Python refuses authorities without an Authority Key Identifier and others that
    break a rule of RFC 5280. Those of companies often do, and Claude Code accepts them.
    """
    # Here, because a server that reaches only this machine needs no certificates.
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # An intermediate authority or a server's own certificate may be trusted by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


def _add(context: ssl.SSLContext, name: str, add: Add) -> RootSource:
    before = _count(context)
    try:
        add(context)
    except ssl.SSLError:
        # What precedes a broken certificate has been added.
        return RootSource(name, _count(context) - before, "it holds no certificates in PEM format")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return RootSource(name, 0, f"it can't be read: {reason}")
    return RootSource(name, _count(context) - before)


def _count(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


def _file(path: str) -> Add:
    def add(context: ssl.SSLContext) -> None:
        if not Path(path).is_file():
            # Reading a pipe or a device might never end.
            raise OSError(None, "not a file" if Path(path).exists() else "no such file")
        context.load_verify_locations(cafile=path)

    return add


def _folder(path: str) -> Add:
    def add(context: ssl.SSLContext) -> None:
        if not Path(path).is_dir():
            raise OSError(None, "no such folder")
        context.load_verify_locations(capath=path)

    return add


def _load_keychain(context: ssl.SSLContext, program: str) -> None:
    """Add what an administrator has installed and the system trusts for TLS."""
    listed = _run(program, "find-certificate", "-a", "-p", KEYCHAIN)
    for piece in listed.split(_PEM_END)[:-1]:
        certificate = f"{piece.strip()}\n{_PEM_END}\n"
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(certificate)
            file.flush()
            # A certificate in the keychain need not be trusted.
            with suppress(OSError):
                _run(program, *("verify-cert", "-c", file.name, "-l", "-L", "-R", "offline"))
                context.load_verify_locations(cadata=certificate)


def _run(program: str, *arguments: str) -> str:
    """What the program prints. Raises `OSError` where it fails."""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="ascii",
            errors="replace",
            timeout=SECURITY_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise OSError(None, f"{program} failed") from error
    return done.stdout
