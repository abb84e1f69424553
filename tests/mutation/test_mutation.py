"""The mutation operators, and that the tables name what exists."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.mutation.modules import HARMLESS, MODULES
from tests.mutation.operators import mutants

FUNCTION = "def f(a, b) -> {returns}:\n    {line}\n"


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("return a < b", ["return a < b → return None", "a < b → a <= b"]),
        ("f(a, b)", ["f(a, b) → pass", "f(a, b) → f(b, a)"]),
        ("await f(a)", []),
        ("if a and b: pass", ["a and b → a or b", "a and b → not (a and b)"]),
        ("a.x = not b", ["a.x = not b → pass", "not b → b"]),
        ("x = a is b", ["a is b → a is not b"]),
        ("x = max(a, 3)", ["max(a, 3) → min(a, 3)", "3 → 4"]),
        ("x = a == 3", ["a == 3 → a != 3", "3 → 4", "3 → 2"]),
        ("x = 'two words', 'name'", ["'name' → 'name~'"]),
        ("x = Color.RED, Color.BLUE", ["Color.RED → Color.BLUE", "Color.BLUE → Color.RED"]),
        ("raise a", ["raise a → pass"]),
    ],
)
def test_what_the_operators_change(line: str, changes: list[str]) -> None:
    source = FUNCTION.format(returns="int | None", line=line)
    source = f"async {source}" if "await" in line else source
    assert sorted(each.change for each in mutants(ast.parse(source))) == sorted(changes)


@pytest.mark.parametrize(
    ("returns", "values"), [("bool", ["True", "False"]), ("str", ["''"]), ("X", ["None"])]
)
def test_a_function_returns_a_constant_of_its_type(returns: str, values: list[str]) -> None:
    tree = ast.parse(FUNCTION.format(returns=returns, line="return a"))
    assert [each.change for each in mutants(tree)] == [f"return a → return {v}" for v in values]


def test_a_table_loses_each_of_its_rows() -> None:
    tree = ast.parse("X = {'a': b, 'c': d}")
    assert [each.change for each in mutants(tree) if each.operator == "row"] == [
        "{'a': b, 'c': d} → {'c': d}",
        "{'a': b, 'c': d} → {'a': b}",
    ]


@pytest.mark.usefixtures("untraced")
def test_a_mutant_compiles_and_differs() -> None:
    source = Path("ccfallback/policy/breaker.py").read_text()
    original = ast.dump(ast.parse(source))
    for number in range(0, len(mutants(ast.parse(source))), 7):
        tree = ast.parse(source)
        mutants(tree)[number].apply()
        assert ast.dump(tree) != original
        compile(tree, "mutant", "exec")


def test_every_row_names_a_module_and_its_tests() -> None:
    for module, tests in MODULES.items():
        assert Path("ccfallback", f"{module}.py").is_file()
        for test in tests:
            assert Path("tests", test).exists(), test


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("pattern", "change", "why"), HARMLESS)
def test_every_harmless_change_is_one_of_today(pattern: str, change: str, why: str) -> None:
    assert why
    found = [
        f"{mutant.function or ''}: {mutant.change}"
        for module in MODULES
        if fnmatch(module, pattern)
        for mutant in mutants(ast.parse(Path("ccfallback", f"{module}.py").read_text()))
    ]
    assert any(re.search(change, each) for each in found)
