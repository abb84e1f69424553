"""How these tests are collected and run: workers, compiled modules, the measuring of coverage."""

import gc
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pytest

import ccfallback


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """How many workers `-n auto` means: three for two cores.

    Tests wait for their servers, clients and processes about two fifths of the time, in which
    another worker can use the core.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores + (cores + 1) // 2


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What the collection of the tests makes lives to the end, so no collector looks at it.

    Otherwise each of its runs goes through all tests: a third of the time that collecting them
    takes, and a large part of every `gc.collect()` in a test.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    is_first = worker == "gw0" if worker else not session.config.getoption("numprocesses", None)
    if is_first and _coverage_is_measured():
        _import_package()
    gc.disable()
    try:
        with _not_traced(), _bytecode_kept():
            if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
                _import_share(session.config.rootpath)
            return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _coverage_is_measured() -> bool:
    return type(sys.gettrace()).__module__.startswith("coverage")


@contextmanager
def _not_traced() -> Iterator[None]:
    """What runs inside does not count for the coverage, and takes half the time.

    A debugger stays.
    """
    before = sys.gettrace(), threading.gettrace()
    if _coverage_is_measured():
        sys.settrace(None)
        threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])


def _import_package() -> None:
    """Import all of the package, so that the lines that an import runs count."""
    for module in pkgutil.walk_packages(ccfallback.__path__, "ccfallback."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def _import_share(root: Path) -> None:
    """Import this worker's share of the test modules before the others.

    Pytest rewrites the assertions of each module, most of the time that collecting takes, and
    keeps the result in a file: so each worker makes a share for all.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker.startswith("gw"):
        return
    count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    modules = sorted(path.relative_to(root) for path in (root / "tests").rglob("test_*.py"))
    for path in modules[int(worker[2:]) :: count]:
        # One that fails is imported again by the collection, which reports what is wrong with it.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.with_suffix("").parts))


BYTECODE = "TESTS_BYTECODE"
"""The variable with the folder for compiled modules where Python may not keep any."""


def pytest_configure(config: pytest.Config) -> None:
    """Make that folder, for this process, its workers and the processes of tests."""
    if sys.dont_write_bytecode and BYTECODE not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="bytecode-", ignore_cleanup_errors=True)
        os.environ[BYTECODE] = folder.name
        config.add_cleanup(folder.cleanup)


@contextmanager
def _bytecode_kept() -> Iterator[None]:
    before = sys.dont_write_bytecode, sys.pycache_prefix
    if BYTECODE in os.environ:
        sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ[BYTECODE]
    try:
        yield
    finally:
        sys.dont_write_bytecode, sys.pycache_prefix = before


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Where Python may not keep compiled modules, the processes of tests share them for once.

    Otherwise each of these processes would compile every module of ccfallback again.
    """
    if BYTECODE in os.environ:
        os.environ["PYTHONPYCACHEPREFIX"] = os.environ[BYTECODE]
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def untraced() -> Iterator[None]:
    """A test that does the same over and over measures no coverage, which doubles its work.

    What it runs, other tests run too.
    """
    with _not_traced():
        yield
