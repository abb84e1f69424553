"""The plan of the house: who may import whom, how long a file may be, who has tests."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ccfallback"
TESTS = ROOT / "tests"
LONGEST = 350
"""Lines of a module; a longer one is usually doing two things."""

MODULES = sorted(PACKAGE.rglob("*.py"))

IMPURE = frozenset({"asyncio", "anyio", "time", "random", "os", "pathlib", "logging", "socket"})
"""What a pure package may not even know: clocks, chance, files, the loop."""

PURE_STDLIB = sys.stdlib_module_names - IMPURE
PURE = frozenset({"core", "rectify", "wire"})
HEAVY = frozenset({"httpx", "starlette", "uvicorn"})


@dataclass(frozen=True)
class Room:
    """What a package may import: packages of ours, others' packages, and the standard library."""

    ours: frozenset[str]
    others: frozenset[str]
    stdlib: frozenset[str] = sys.stdlib_module_names


ROOMS = {
    "core": Room(frozenset({"core", "errors"}), frozenset({"msgspec"}), PURE_STDLIB),
    "rectify": Room(frozenset({"rectify", "core"}), frozenset({"msgspec"}), PURE_STDLIB),
    "wire": Room(frozenset({"wire", "core"}), frozenset({"msgspec"}), PURE_STDLIB),
    "store": Room(
        frozenset({"store", "core", "errors", "rectify", "wire", "__version__"}),
        frozenset({"msgspec", "tomlkit", "platformdirs", "filelock", "yaml"}),
        sys.stdlib_module_names - {"asyncio"},
    ),
    "proxy": Room(
        frozenset({"proxy", "store", "core", "errors", "rectify", "wire", "__version__"}),
        frozenset({"msgspec", "prometheus_client", "uvloop", "httptools", *HEAVY}),
    ),
    "cli": Room(
        frozenset({"cli", "proxy", "store", "core", "errors", "rectify", "wire", "__version__"}),
        frozenset({"msgspec", "typer", "rich", *HEAVY}),
    ),
}
"""The import table: a package that is not here may not exist."""

ASYNC = frozenset({"proxy", "cli"})

WITHOUT_TESTS = {
    "__init__.py": "the version, nothing else",
    "__main__.py": "starts `cli.main`, nothing else",
    "errors.py": "a tree of names, used by everybody's tests",
    "cli/exit.py": "the names of three numbers",
    "cli/grid.py": "test_console.py and the screens of every command that shows a table",
    "cli/health.py": "test_breaker.py and test_providers.py see all of it",
    "cli/options.py": "declarations that every command's tests use",
    "cli/root.py": "test_main.py: the choke point that every command goes through",
    "cli/running.py": "test_env.py: the server that is found, and the one that is not",
    "cli/session.py": "what a command begins with: every command's tests do",
    "cli/statusline.py": "test_glance.py: the command, the quick way past it, and the line itself",
    "cli/teller.py": "test_logs.py: the story that it tells",
    "proxy/app.py": "the map of routes: test_messages.py and test_plain.py walk it",
    "proxy/attempt.py": "test_messages.py: every way for an attempt to end, over real sockets",
    "proxy/carrier.py": "test_upstream.py and test_answer.py go through it",
    "proxy/context.py": "records that are handed around",
    "proxy/conversation.py": "test_messages.py: every try is made there",
    "proxy/drive.py": "a match on two steps: test_messages.py performs both",
    "proxy/relay.py": "test_messages.py: every way for a stream to end, over real sockets",
    "proxy/respond.py": "five lines that every answer of our own goes through",
    "core/draft.py": "a body and its flags, nothing else",
    "core/explanation.py": "the value that test_explain.py looks at",
    "proxy/drill_stage.py": "test_drill.py: every fault is played on it",
    "proxy/drill_client.py": "test_drill.py: it does every task there",
    "proxy/dialect.py": "test_faults.py: every fault in both formats",
    "proxy/elsewhere.py": "test_faults.py: every place is somewhere a provider is looked for",
    "proxy/misbehaving.py": "test_faults.py: every fault is made of its scripts",
    "proxy/scripted.py": "the upstream of the other tests",
    "proxy/scripted_openai.py": "the same, in the other format",
}
"""Modules without a test file of their own, and why."""


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


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_is_long(module: Path) -> None:
    length = len(module.read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST


def files_for(module: Path) -> list[Path]:
    """Where the tests of a module may be: in its mirror, or in one file for its folder."""
    mirror = TESTS / module.relative_to(PACKAGE).parent
    if module.name == "__init__.py":
        return [*mirror.glob("test_*.py"), mirror.parent / f"test_{mirror.name}.py"]
    return [mirror / f"test_{module.name}", mirror.parent / f"test_{mirror.name}.py"]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_every_module_has_its_tests(module: Path) -> None:
    if module.relative_to(PACKAGE).as_posix() in WITHOUT_TESTS:
        return
    assert any(path.exists() for path in files_for(module)), [name_of(p) for p in files_for(module)]


def test_who_is_said_to_need_no_tests_exists() -> None:
    assert all((PACKAGE / name).exists() for name in WITHOUT_TESTS)
