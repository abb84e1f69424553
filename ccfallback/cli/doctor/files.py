"""The files: do they load, can they be written, who else can read them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ccfallback import files
from ccfallback.cli.doctor.case import (
    DoctorContext,
    Finding,
    Severity,
    broken,
    doubtful,
    good,
    judged,
)
from ccfallback.cli.phrases import format_ago
from ccfallback.config.file import DraftFile
from ccfallback.events.journal_reader import numbered, rotations
from ccfallback.state.file import set_aside_files

LEAST_FREE: Final = 16 * 1024 * 1024
"""Bytes below which the next write may fail."""


VARIABLE: Final = "CCFALLBACK_CONFIG"


def config(case: DoctorContext) -> Iterator[Finding]:
    """Does the configuration load; if not, what is the last one that does."""
    file = case.session.config_file
    error = case.config_error
    if error is None:
        if file.stamp() is not None:
            yield good("config", f"{file.path} loads")
        elif "--config" in case.session.console.files or case.session.environ.get(VARIABLE):
            message = f"{file.path} was named, and is not there: all defaults"
            remedy = f"see whether --config or {VARIABLE} is right; the first change makes it"
            yield doubtful("config", message, remedy)
        else:
            yield good("config", f"{file.path} is not there: all defaults")
        return
    last = file.last_good()
    back = (
        f"or `ccfallback config rollback {last.number}`: that version, replaced "
        f"{format_ago(last.time, case.now)}, loads"
        if last is not None
        else "no earlier version loads; `ccfallback config reset` begins anew"
    )
    yield broken("config", error.message, f"{error.hint or 'mend it'}; {back}")


def state(case: DoctorContext) -> Iterator[Finding]:
    """Can the breaker state be read and written."""
    path = case.session.paths.state
    fault = case.session.store.peek().problem
    if fault is not None:
        yield broken(
            "state",
            f"{path} counts as empty: {fault}",
            f"`ccfallback breaker status` sets it aside and begins anew, or remove {path}",
        )
    elif (why := _unwritable(path)) is not None:
        yield broken(
            "state",
            f"{path} can't be written: {why}",
            "see to its permissions, or name another file with --state",
        )
    else:
        yield good("state", f"{path} {'is good' if path.exists() else 'is not there yet'}")
    for aside in set_aside_files(path):
        yield doubtful(
            "state", f"a broken state was set aside as {aside}", f"look at it, then remove {aside}"
        )


def log(case: DoctorContext) -> Iterator[Finding]:
    """Can the log be written."""
    path = case.session.paths.log
    why = _unwritable(path)
    if why is None:
        yield good("log", f"{path} can be written")
    else:
        remedy = "see to its permissions, or name another file with --log-file"
        yield broken("log", f"{path} can't be written: {why}", remedy)


def disk(case: DoctorContext) -> Iterator[Finding]:
    """Is there room, for the log as long as it may become."""
    paths = case.session.paths
    wanted = LEAST_FREE
    if case.config is not None:
        wanted += case.config.log.max_bytes * (case.config.log.backups + 1)
    folders = {_nearest(path.parent) for path in (paths.config, paths.state, paths.log)}
    free = {folder: shutil.disk_usage(folder).free for folder in folders}
    folder = min(free, key=lambda each: free[each])
    left, most = _megabytes(free[folder]), _megabytes(wanted)
    if free[folder] < wanted:
        yield judged(
            "disk",
            f"{left} are free at {folder}, the log may take {most}",
            "make room, or keep less: log.max_bytes and log.backups in the configuration",
            grave=free[folder] < LEAST_FREE,
        )
    else:
        yield good("disk", f"{left} are free")


def permissions(case: DoctorContext) -> Iterator[Finding]:
    """Can others read what holds keys or tells of requests."""
    paths = case.session.paths
    history = [version.path for version in case.session.config_file.history()]
    draft = DraftFile(paths.config).path
    logs = [numbered(paths.log, number) for number in (0, *rotations(paths.log))]
    told = [paths.state, *set_aside_files(paths.state), *logs]
    loose = [
        *((path, Severity.ERROR) for path in _loose([paths.config, draft, *history])),
        *((path, Severity.WARNING) for path in _loose(told)),
    ]
    for path, severity in loose:
        if case.fix and _mended(path):
            yield good("permissions", f"{path} was open to others, and is yours alone now")
            continue
        what = "holds keys" if severity is Severity.ERROR else "tells of your requests"
        message = f"{path} {what}, and others on this machine can open it"
        remedy = f"`ccfallback doctor --fix`, or `chmod 600 {path}`"
        yield Finding("permissions", severity, message, remedy)
    if not loose:
        yield good("permissions", "nobody else can open the files")


def _loose(paths: list[Path]) -> list[Path]:
    found = []
    for path in paths:
        try:
            private = files.is_private(path)
        except OSError:
            continue
        if not private:
            found.append(path)
    return found


def _mended(path: Path) -> bool:
    try:
        path.chmod(files.PRIVATE_FILE)
    except OSError:
        return False
    return True


def _unwritable(path: Path) -> str | None:
    """Why a file can't be written, as far as one can tell without writing it."""
    target = files.real(path)
    if target.exists() and not target.is_file() and not target.is_char_device():
        return "it is no file"
    nearest = _nearest(target.parent)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} does not let you write"
    if target.exists() and not os.access(target, os.W_OK):
        return "its permissions do not let you"
    return None


def _nearest(path: Path) -> Path:
    """The path itself, or what is there of the way to it."""
    return next(each for each in (path, *path.parents) if each.exists() or each == each.parent)


def _megabytes(count: int) -> str:
    return f"{count / 1e9:,.0f} GB" if count >= 10e9 else f"{count / 1e6:,.0f} MB"
