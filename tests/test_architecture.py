"""The import table: which package may import which, and what a pure package may not do."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ccfallback"
MODULES = sorted(PACKAGE.rglob("*.py"))

IMPURE = frozenset({"asyncio", "anyio", "time", "random", "os", "pathlib", "logging", "socket"})
"""What a pure package may not even know: clocks, chance, files, the loop."""

PURE_STDLIB = sys.stdlib_module_names - IMPURE
PURE = frozenset({"messages", "policy", "rectify", "wire"})
HEAVY = frozenset({"httpx", "starlette", "uvicorn"})


SHARED = frozenset({"addresses", "errors", "redact", "suggest", "files", "paths", "__version__"})
"""Modules at the top of the package, which every package that does I/O may import."""


@dataclass(frozen=True)
class Room:
    """What a package may import: packages of ours, others' packages, and the standard library."""

    ours: frozenset[str]
    others: frozenset[str]
    stdlib: frozenset[str] = sys.stdlib_module_names


ROOMS = {
    "messages": Room(frozenset({"messages"}), frozenset({"msgspec"}), PURE_STDLIB),
    "policy": Room(
        frozenset({"policy", "messages", "config", "addresses"}),
        frozenset({"msgspec"}),
        PURE_STDLIB,
    ),
    "config": Room(
        frozenset({"config", "messages", *SHARED}),
        frozenset({"msgspec", "tomlkit"}),
        sys.stdlib_module_names - {"asyncio"},
    ),
    "wire": Room(frozenset({"wire", "messages", "config"}), frozenset({"msgspec"}), PURE_STDLIB),
    "rectify": Room(
        frozenset({"rectify", "messages", "policy"}), frozenset({"msgspec"}), PURE_STDLIB
    ),
    "http1": Room(frozenset({"http1"}), frozenset({"httptools"})),
    "state": Room(
        frozenset({"state", "policy", *SHARED}),
        frozenset({"msgspec"}),
        sys.stdlib_module_names - {"asyncio"},
    ),
    "events": Room(
        frozenset({"events", "policy", "config", *SHARED}),
        frozenset({"msgspec"}),
        sys.stdlib_module_names - {"asyncio"},
    ),
    "server": Room(
        frozenset(
            {
                "server",
                "messages",
                "policy",
                "config",
                "wire",
                "rectify",
                "http1",
                "state",
                "events",
                *SHARED,
            }
        ),
        frozenset({"msgspec", "prometheus_client", "uvloop", "httptools", *HEAVY}),
    ),
    "simulator": Room(
        frozenset(
            {
                "simulator",
                "server",
                "messages",
                "policy",
                "config",
                "wire",
                "rectify",
                "http1",
                "state",
                "events",
                *SHARED,
            }
        ),
        frozenset({"msgspec", "uvloop", "httptools", *HEAVY}),
    ),
    "cli": Room(
        frozenset(
            {
                "cli",
                "simulator",
                "server",
                "messages",
                "policy",
                "config",
                "wire",
                "rectify",
                "http1",
                "state",
                "events",
                *SHARED,
            }
        ),
        frozenset({"msgspec", "typer", "rich", "tomlkit", "yaml", *HEAVY}),
    ),
}
"""The import table: a package that is not here may not exist."""

ASYNC = frozenset({"http1", "server", "simulator", "cli"})


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that is imported, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def at_import_time(tree: ast.Module) -> set[ast.stmt]:
    """The statements that run when the module is imported."""
    found: set[ast.stmt] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        found.add(statement)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        waiting += [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt)]
    return found - for_the_type_checker(tree)


def for_the_type_checker(tree: ast.Module) -> set[ast.AST]:
    """What never runs."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


IN_ROOMS = [module for module in MODULES if module.parent != PACKAGE]


def test_every_package_has_its_row_in_the_import_table() -> None:
    assert {room_of(module) for module in IN_ROOMS} == set(ROOMS)


@pytest.mark.parametrize("module", IN_ROOMS, ids=name_of)
def test_imports_point_down(module: Path) -> None:
    room = ROOMS[room_of(module)]
    tree = parsed(module)
    unreal = for_the_type_checker(tree)
    for name, node in imports(tree):
        top, _, rest = name.partition(".")
        where = f"{name_of(module)}:{node.lineno} imports {name}"
        if top == "ccfallback":
            assert rest.partition(".")[0] in room.ours, where
        elif top in sys.stdlib_module_names:
            assert top in room.stdlib, where
        elif node not in unreal:
            assert top in room.others, where


@pytest.mark.parametrize("module", IN_ROOMS, ids=name_of)
def test_only_who_serves_awaits(module: Path) -> None:
    if room_of(module) in ASYNC:
        return
    kinds = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(parsed(module)) if isinstance(node, kinds)]


@pytest.mark.parametrize(
    "module", [module for module in IN_ROOMS if room_of(module) in PURE], ids=name_of
)
def test_what_is_pure_opens_and_prints_nothing(module: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize(
    "module", [module for module in IN_ROOMS if room_of(module) != "cli"], ids=name_of
)
def test_only_the_command_line_prints(module: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls


@pytest.mark.parametrize(
    "module", [module for module in IN_ROOMS if room_of(module) == "cli"], ids=name_of
)
def test_a_command_that_needs_no_network_stays_quick(module: Path) -> None:
    tree = parsed(module)
    early = at_import_time(tree)
    heavy = [
        f"line {node.lineno}: {name}"
        for name, node in imports(tree)
        if node in early and name.partition(".")[0] in HEAVY
    ]
    assert not heavy
