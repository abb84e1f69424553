"""Configuration options as rows: one row says everything that the program knows about a key.

A row makes the default of a field in `model` or `quirks`, written as `option(check, default, help,
…)`. What follows from it: the check and the default of the schema, the flag of `providers add|set`
and its help, what `providers show` and `config get` print, masking, JSON and completion.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import replace

from ccfallback.config.checks import Check, Expected, describe
from ccfallback.errors import ConfigFault
from ccfallback.printable import printable
from ccfallback.redact import Secret, scrub, scrub_misplaced
from ccfallback.structs import Discreet
from ccfallback.words import did_you_mean

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a table."""

    key: str
    """Its name in the file; the name of the field unless the row says otherwise."""
    check: Check[Any]
    default: Any
    """As the file would say it; None for an option that is unset by default."""
    help: str
    required: str
    """What an error expects where the key is missing; empty for an optional key."""
    flag: str
    """The flag of `providers add|set`; empty for an option that only the file sets."""
    metavar: str
    repeats_as: str
    """The key for the values of a flag that is given several times; empty if it may not be."""
    separators: str
    """The characters that may separate a name from its value in the flag's `NAME=VALUE`."""
    mask: Callable[[Any], Any] | None
    """How to show a value that may be, or contain, a secret."""
    fallback_only: bool
    """Whether the primary does not have it."""
    field: str = ""
    kind: type = str
    """The type of a value: str, int, float, bool, or Mapping."""
    path: str = ""
    """The dotted key, seen from the table that `options` was asked about."""

    def __call__(self) -> Any:
        """The value of the field where none is given."""
        if self.required:
            raise TypeError(f"missing {self.required}")
        return None if self.default is None else self.check(self.default)

    def accepts(self, value: Any) -> bool:
        """Whether the file may say that."""
        try:
            self.check(value)
        except Expected:
            return False
        return True

    def mask_value(self, value: Any) -> Any:
        """A value without what must not be seen."""
        if value is None:
            return None
        return scrub_values(value) if self.mask is None else self.mask(value)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Options that belong together: a table of their own, or, without a key, part of this one."""

    key: str
    fallback_only: bool
    field: str = ""
    kind: type

    def __call__(self) -> Any:
        """The value of the field where none is given."""
        return self.kind()


class Options(Discreet, msgspec.Struct, frozen=True):
    """A table of the configuration. Its `repr` shows no option that may hold a secret."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        masked = {row.field for row in members(type(self)) if isinstance(row, Option) and row.mask}
        shown = (name for name in self.__struct_fields__ if name not in masked)
        return [(name, getattr(self, name)) for name in shown]


def option(
    check: Check[Any],
    default: Any,
    help: str,
    *,
    key: str = "",
    required: str = "",
    flag: str = "",
    repeats_as: str = "",
    separators: str = "",
    mask: Callable[[Any], Any] | None = None,
    fallback_only: bool = False,
) -> Any:
    """The default of a field that is an option.

    `default` is as the file would say it; `flag` may include a metavar, as in `--retry N`.
    """
    flag, _, metavar = flag.partition(" ")
    row = Option(
        key=key,
        check=check,
        default=default,
        help=help,
        required=required,
        flag=flag,
        metavar=metavar,
        repeats_as=repeats_as,
        separators=separators,
        mask=mask,
        fallback_only=fallback_only,
    )
    return msgspec.field(default_factory=row)


def group(kind: type, *, key: str = "", fallback_only: bool = False) -> Any:
    """The default of a field that is a group of options."""
    return msgspec.field(default_factory=Group(key=key, kind=kind, fallback_only=fallback_only))


_MEMBERS: Final[dict[type, tuple[Option | Group, ...]]] = {}


def members(kind: type) -> tuple[Option | Group, ...]:
    """The options and groups of a struct, in the order of its fields."""
    if kind in _MEMBERS:
        return _MEMBERS[kind]
    found: list[Option | Group] = []
    for each in msgspec.structs.fields(kind):
        match each.default_factory:
            case Option() as row:
                key = row.key or each.name
                kind_of_value = _kind(each.type)
                found.append(replace(row, key=key, path=key, field=each.name, kind=kind_of_value))
            case Group() as row:
                found.append(replace(row, field=each.name))
    return _MEMBERS.setdefault(kind, tuple(found))


def options(*kinds: type, deep: bool = False) -> tuple[Option, ...]:
    """The options in tables of these kinds; with `deep`, also those in tables below them."""
    found: list[Option] = []
    for kind in kinds:
        for member in members(kind):
            if isinstance(member, Option):
                found.append(member)
            elif not member.key:
                found += options(member.kind, deep=deep)
            elif deep:
                below = options(member.kind, deep=True)
                found += (replace(row, path=f"{member.key}.{row.path}") for row in below)
    return tuple(found)


def to_table(instance: Any, *, primary: bool = False, masked: bool = False) -> dict[str, Any]:
    """What an instance says for each key, as TOML and JSON have it; None for an unset option.

    With `primary`, only the keys that `[primary]` may hold.
    """
    found: dict[str, Any] = {}
    for member in members(type(instance)):
        if primary and member.fallback_only:
            continue
        value = getattr(instance, member.field)
        if isinstance(member, Group):
            inner = to_table(value, masked=masked)
            found |= {member.key: inner} if member.key else inner
        else:
            found[member.key] = member.mask_value(to_plain(value)) if masked else to_plain(value)
    return found


def to_plain(value: Any) -> Any:
    """A value of the model with the types that TOML has."""
    match value:
        case Secret():
            return value.reveal()
        case tuple():
            return [to_plain(item) for item in value]
        case Mapping():
            return dict(value)
        case _:
            return value


def scrub_values(value: Any) -> Any:
    """A value without anything in it that looks like a key."""
    match value:
        case str():
            return scrub(value)
        case Mapping():
            return {key: scrub_values(item) for key, item in value.items()}
        case list():
            return [scrub_values(item) for item in value]
        case _:
            return value


def whole_numbers(value: Any) -> Any:
    """A value with its whole numbers as a person writes them: 30, not 30.0."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {key: whole_numbers(item) for key, item in value.items()}
        case list():
            return [whole_numbers(item) for item in value]
        case _:
            return value


def _kind(annotation: Any) -> type:
    """The type of an option's values, from the annotation of its field."""
    parts = [get_origin(part) or part for part in (annotation, *get_args(annotation))]
    return next((kind for kind in (bool, int, float, Mapping) if kind in parts), str)


class Reader:
    """Reads the keys of one table, collects every fault, and refuses keys that nothing reads."""

    def __init__(
        self,
        table: Any,
        path: str,
        faults: list[ConfigFault],
        place: tuple[str | int, ...] = (),
    ) -> None:
        """`path` is what messages call the table, `place` the way to it in the document."""
        self.path = path
        self.faults = faults
        self._place = place
        self._read: list[str] = []
        self._missing: list[str] = []
        if isinstance(table, Mapping):
            self.table: Mapping[str, Any] = table
        else:
            self.table = {}
            # The value is not shown: a bare token may stand where a table belongs.
            self.fault("", "a text" if isinstance(table, str) else describe(table), "a table")

    def fault(self, key: str, found: str, expected: str) -> None:
        """Record that the value of `key`, or without a key the table, is wrong."""
        self._add(key, f"found {found}, expected {expected}")

    def _add(self, key: str, problem: str) -> None:
        # Any text may be a name in the file, also a credential that was pasted there.
        name = scrub_misplaced(key)
        path = f"{self.path}.{name}" if self.path and name else self.path or name
        place = (*self._place, key) if key else self._place
        self.faults.append(ConfigFault(printable(scrub(path), "\ufffd"), scrub(problem), place))

    def get(self, key: str, check: Check[T], default: T) -> T:
        """The meaning of `key`; `default` where it is missing or wrong."""
        self._read.append(key)
        if key not in self.table:
            return default
        value = self.table[key]
        try:
            return check(value)
        except Expected as wrong:
            self.fault(key, wrong.found or describe(value), wrong.expected)
            return default

    def fill(self, base: S, *, primary: bool = False, skip: Collection[str] = ()) -> S:
        """`base`, changed by the options that the table sets. `skip` names keys read elsewhere."""
        values: dict[str, Any] = {}
        for member in members(type(base)):
            if member.key in skip or (primary and member.fallback_only):
                continue
            default = getattr(base, member.field)
            if isinstance(member, Option):
                if member.required and not primary and member.key not in self.table:
                    self.fault(member.key, "nothing", member.required)
                    self._missing.append(member.key)
                values[member.field] = self.get(member.key, member.check, default)
            elif member.key:
                values[member.field] = self.section(member.key, default)
            else:
                values[member.field] = self.fill(default, primary=primary)
        return replace(base, **values)

    def section(self, key: str, base: S) -> S:
        """`base`, changed by the table at `key`."""
        reader = self.below(key)
        filled = reader.fill(base)
        reader.finish()
        return filled

    def below(self, key: str) -> "Reader":
        """The reader of the table at `key`; of an empty one where there is none."""
        self._read.append(key)
        path = f"{self.path}.{key}" if self.path else key
        return Reader(self.table.get(key, {}), path, self.faults, (*self._place, key))

    def finish(self) -> None:
        """Refuse every key that has not been read."""
        for key in self.table:
            if key not in self._read:
                # A required key that is missing is meant before any other.
                meant = did_you_mean(key, self._missing) or did_you_mean(key, self._read)
                known = f"expected one of {', '.join(sorted(self._read))}"
                self._add(key, f"unknown key; {meant or known}")
