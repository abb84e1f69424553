"""What there is to say of a command, for `--help` and for the man page alike.

Typer's own help differs from version to version, and speaks of Python's types; this asks a command
for its parameters and says the rest itself.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

EXAMPLE: Final = "Example: "
"""How an epilog begins; each of its lines is an example."""

HELP: Final = ("-h, --help", "Show this message and exit.")


class Entry(NamedTuple):
    """A line of help: what one types, and what it means."""

    term: str
    text: str


def usage(command: Any) -> list[str]:
    """What follows the name of a command."""
    pieces = ["[OPTIONS]"]
    for argument in _parameters(command, "argument"):
        name = _metavar(argument)
        if argument.nargs == -1 and not name.endswith("..."):
            name += "..."
        pieces.append(name if argument.required else f"[{name}]")
    return [*pieces, "COMMAND ..."] if hasattr(command, "list_commands") else pieces


def arguments(command: Any) -> list[Entry]:
    """What a command is given by its place."""
    return [
        Entry(_metavar(argument), argument.help or "")
        for argument in _parameters(command, "argument")
    ]


def options(command: Any) -> list[Entry]:
    """What a command is given by its name; what every command has stands at the end."""
    found = sorted(_parameters(command, "option"), key=lambda option: option.opts == ["--json"])
    return [*(Entry(_spelling(option), _meaning(option)) for option in found), Entry(*HELP)]


def commands(command: Any) -> dict[str, Any]:
    """The commands below a command, in the order of help."""
    if not hasattr(command, "list_commands"):
        return {}
    return {name: command.get_command(None, name) for name in command.list_commands(None)}


def summary(command: Any) -> str:
    """The first sentence about a command."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


def examples(command: Any) -> list[str]:
    """Command lines that show how it is used."""
    return [line.strip() for line in (command.epilog or "").removeprefix(EXAMPLE).splitlines()]


def _parameters(command: Any, kind: str) -> Iterator[Any]:
    for parameter in command.params:
        if parameter.param_type_name == kind and not getattr(parameter, "hidden", False):
            yield parameter


def _metavar(parameter: Any) -> str:
    """What stands for the value: by default the longest name, without its hyphens."""
    name = max((*parameter.opts, ""), key=len).strip("-") or parameter.name
    metavar: str = parameter.metavar or name.upper()
    return metavar


def _choices(option: Any) -> list[str]:
    """The values that an option may have, where they are few; older typers keep them elsewhere."""
    kept = getattr(option, "type_descriptor", None)
    members = getattr(kept.annotation, "__members__", {}) if kept else {}
    choices = members.values() or getattr(getattr(option, "type", None), "choices", ())
    return [str(getattr(one, "value", one)) for one in choices]


def _spelling(option: Any) -> str:
    names = sorted(option.opts, key=len)
    term = ", ".join(names)
    if option.secondary_opts:
        term += " / " + ", ".join(option.secondary_opts)
    return term if option.is_flag else f"{term} {_metavar(option)}"


def _meaning(option: Any) -> str:
    text: str = option.help or ""
    choices = _choices(option)
    if choices:
        text = f"{text.rstrip('.')}: {', '.join(choices[:-1])} or {choices[-1]}."
    if option.required:
        return f"{text} [required]"
    default = getattr(option.default, "value", option.default)
    if option.is_flag or not isinstance(default, str | int | float) or default == "":
        return text
    return f"{text} [default: {default}]"
