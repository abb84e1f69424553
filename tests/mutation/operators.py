"""What a mutant changes: a table of operators over the syntax tree of a module."""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Replacements = list[ast.AST]
Operator = Callable[[ast.AST, "Surroundings"], Replacements]

COMPARISONS: Final[Mapping[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATIONS: Final[Mapping[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
NEGATED: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Comparisons whose counterpart in `COMPARISONS` is their negation."""

BY_TYPE: Final = {"bool": (True, False), "str": ("",), "int": (0,), "float": (0.0,)}
"""What a function returns instead, by its annotation."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a node stands."""

    parent: ast.AST
    field: str
    function: str | None
    """The qualified name of the outermost function around it."""
    returns: str
    """The annotation of what the innermost function returns."""
    members: Mapping[str, tuple[str, ...]]
    """The members of each enumeration that the module names."""


def compare(node: ast.AST, at: Surroundings) -> Replacements:
    """`<` and `<=`, `>` and `>=`, and the comparisons that have an opposite."""
    if not isinstance(node, ast.Compare):
        return []
    return [
        ast.Compare(
            node.left,
            [*node.ops[:n], COMPARISONS[type(op)](), *node.ops[n + 1 :]],
            node.comparators,
        )
        for n, op in enumerate(node.ops)
    ]


def logic(node: ast.AST, at: Surroundings) -> Replacements:
    """`and` and `or`."""
    if not isinstance(node, ast.BoolOp):
        return []
    return [ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)]


def negation(node: ast.AST, at: Surroundings) -> Replacements:
    """A condition, and its opposite."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    is_test = at.field in ("test", "guard") or (at.field == "ifs")
    if not is_test or (isinstance(node, ast.Compare) and isinstance(node.ops[0], NEGATED)):
        return []
    return [ast.UnaryOp(ast.Not(), node)] if isinstance(node, ast.expr) else []


def arithmetic(node: ast.AST, at: Surroundings) -> Replacements:
    """`+` and `-`, `*` and `/`, `|` and `&`, a sign, `min` and `max`, `any` and `all`."""
    match node:
        case ast.BinOp(op=op) if type(op) in OPERATIONS:
            return [ast.BinOp(node.left, OPERATIONS[type(op)](), node.right)]
        case ast.AugAssign(op=op) if type(op) in OPERATIONS:
            return [ast.AugAssign(node.target, OPERATIONS[type(op)](), node.value)]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return [operand]
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            return [ast.Call(ast.Name(CALLS[name], ast.Load()), node.args, node.keywords)]
    return []


def removal(node: ast.AST, at: Surroundings) -> Replacements:
    """A statement without a result: a call that is not awaited, a change of a member, a raise."""
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            return [ast.Pass()]
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return [ast.Pass()]
        case ast.Continue():
            return [ast.Break()]
        case ast.Break():
            return [ast.Continue()]
    return []


def returned(node: ast.AST, at: Surroundings) -> Replacements:
    """A constant in the place of what a function returns."""
    if not isinstance(node, ast.Return) or node.value is None:
        return []
    values = BY_TYPE.get(at.returns, (None,))
    was = node.value.value if isinstance(node.value, ast.Constant) else ...
    return [ast.Return(ast.Constant(value)) for value in values if value is not was]


def constant(node: ast.AST, at: Surroundings) -> Replacements:
    """A switch, a number, a key or a name. The wording of messages is left alone."""
    if not isinstance(node, ast.Constant) or isinstance(at.parent, ast.JoinedStr | ast.Return):
        return []
    match node.value:
        case bool(value):
            values: tuple[bool | int | float | str | bytes, ...] = (not value,)
        case int(value):
            values = (value + 1, value - 1) if isinstance(at.parent, ast.Compare) else (value + 1,)
        case float(value):
            values = (value + 1.0,)
        case str(value) if " " not in value:
            values = (f"{value}~",)
        case bytes(value):
            values = (value + b"~",)
        case _:
            values = ()
    return [ast.Constant(value) for value in values]


def arguments(node: ast.AST, at: Surroundings) -> Replacements:
    """The first two arguments of a call, swapped."""
    match node:
        case ast.Call(func=ast.Name(id="min" | "max" | "isinstance" | "cast" | "getattr")):
            return []
        case ast.Call(args=[first, second, *rest]):
            if isinstance(first, ast.Starred) or isinstance(second, ast.Starred):
                return []
            if ast.dump(first) == ast.dump(second):
                return []
            return [ast.Call(node.func, [second, first, *rest], node.keywords)]
    return []


def member(node: ast.AST, at: Surroundings) -> Replacements:
    """Another member of an enumeration."""
    match node:
        case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in at.members:
            others = at.members[name]
            if attr in others and len(others) > 1:
                other = others[(others.index(attr) + 1) % len(others)]
                return [ast.Attribute(node.value, other, ast.Load())]
    return []


def row(node: ast.AST, at: Surroundings) -> Replacements:
    """A table at the top of a module, with one row less."""
    if at.function is not None:
        return []
    match node:
        case ast.Dict():
            return [
                ast.Dict(node.keys[:n] + node.keys[n + 1 :], node.values[:n] + node.values[n + 1 :])
                for n in range(len(node.keys))
            ]
        case ast.Set(elts=[_, _, *_]):
            return [ast.Set(node.elts[:n] + node.elts[n + 1 :]) for n in range(len(node.elts))]
        case ast.Tuple(elts=[_, _, *_], ctx=ast.Load()) if not isinstance(at.parent, ast.Tuple):
            return [
                ast.Tuple(node.elts[:n] + node.elts[n + 1 :], ast.Load())
                for n in range(len(node.elts))
            ]
    return []


OPERATORS: Final[tuple[Operator, ...]] = (
    compare,
    logic,
    negation,
    arithmetic,
    removal,
    returned,
    constant,
    arguments,
    member,
    row,
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one node."""

    operator: str
    parent: ast.AST
    field: str
    index: int | None
    old: ast.AST
    new: ast.AST
    function: str | None
    """The qualified name of the outermost function whose body it changes; `None` elsewhere."""
    statement: ast.stmt

    @property
    def line(self) -> int:
        """The line of the change."""
        return getattr(self.old, "lineno", self.statement.lineno)

    @property
    def lines(self) -> range:
        """The lines of what it changes."""
        return range(self.line, (getattr(self.old, "end_lineno", None) or self.line) + 1)

    @property
    def change(self) -> str:
        """What it changes, in one line."""
        old, new = (" ".join(ast.unparse(node).split()) for node in (self.old, self.new))
        return f"{old} → {new}"

    def apply(self) -> None:
        """Change the tree, for good: a mutant is applied in a process of its own."""
        new = ast.copy_location(copy.deepcopy(self.new), self.old)
        ast.fix_missing_locations(new)
        if self.index is None:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.index] = new


def mutants(tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in its order."""
    named: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name[0].isupper():
                if attr.isupper():
                    named.setdefault(name, set()).add(attr)
    members = {name: tuple(sorted(attrs)) for name, attrs in named.items()}
    return list(_mutants(tree, tree.body[0], (), None, "", members))


SKIPPED: Final = frozenset({"annotation", "returns", "decorator_list", "type_params", "bases"})
"""Fields for the type checker, or that say what a class is."""


def _mutants(
    node: ast.AST,
    statement: ast.stmt,
    names: tuple[str, ...],
    function: str | None,
    returns: str,
    members: Mapping[str, tuple[str, ...]],
) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(node):
        if field in SKIPPED:
            continue
        inside, returned_type, path = function, returns, names
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            path = (*names, node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and field == "body":
            returned_type = "" if node.returns is None else ast.unparse(node.returns)
            inside = function or ".".join(path)
        several = isinstance(value, list)
        for index, child in enumerate(value if several else [value]):
            if not isinstance(child, ast.AST) or _is_skipped(child):
                continue
            here = child if isinstance(child, ast.stmt) else statement
            at = Surroundings(node, field, inside, returned_type, members)
            for operator in OPERATORS:
                for new in operator(child, at):
                    place = index if several else None
                    yield Mutant(operator.__name__, node, field, place, child, new, inside, here)
            yield from _mutants(child, here, path, inside, returned_type, members)


def _is_skipped(node: ast.AST) -> bool:
    """Tell whether nothing in a node is behaviour: a docstring, names for slots, types."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar" | "NewType"))):
            return True
    return False
