"""What there is to say about a command: its usage, its options, its examples."""

from collections.abc import Iterator
from typing import Any

from ccfallback.cli.help.markup import Entry
from ccfallback.cli.options import EXAMPLE


def usage(command: Any) -> list[str]:
    """The words after the command's name in its synopsis."""
    pieces = ["[OPTIONS]"]
    for argument in _parameters(command, "argument"):
        name = _metavar(argument) + ("..." if argument.nargs == -1 else "")
        pieces.append(name if argument.required else f"[{name}]")
    return [*pieces, "COMMAND ..."] if hasattr(command, "list_commands") else pieces


def arguments(command: Any) -> list[Entry]:
    """The command's arguments."""
    found = _parameters(command, "argument")
    return [Entry(_metavar(argument), argument.help or "") for argument in found]


def options(command: Any) -> list[Entry]:
    """The command's own options, with `--json` at the end."""
    found = sorted(_parameters(command, "option"), key=lambda option: option.opts == ["--json"])
    return [Entry(_spelling(option), _meaning(option)) for option in found]


def below(command: Any) -> dict[str, Any]:
    """The commands below a command, in the order of its help."""
    if not hasattr(command, "list_commands"):
        return {}
    return {name: command.get_command(None, name) for name in command.list_commands(None)}


def summary(command: Any) -> str:
    """The first sentence of the command's help."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


def examples(command: Any) -> list[str]:
    """The command lines of the command's epilog."""
    epilog = (command.epilog or "").replace("\b\n", "").strip()
    return [line.strip() for line in epilog.removeprefix(EXAMPLE).splitlines()]


def _parameters(command: Any, kind: str) -> Iterator[Any]:
    for parameter in command.params:
        if parameter.param_type_name == kind and not getattr(parameter, "hidden", False):
            yield parameter


def _metavar(parameter: Any) -> str:
    """The word for the parameter's value: by default its longest name without hyphens."""
    name = max((*parameter.opts, ""), key=len).strip("-") or parameter.name
    metavar: str = parameter.metavar or name.upper()
    return metavar


def choices(option: Any) -> list[str]:
    """The values that an enumeration allows; older versions of typer keep them elsewhere."""
    descriptor = getattr(option, "type_descriptor", None)
    members = getattr(descriptor.annotation, "__members__", {}) if descriptor else {}
    choices = members.values() or getattr(getattr(option, "type", None), "choices", ())
    return [str(getattr(each, "value", each)) for each in choices]


def _spelling(option: Any) -> str:
    term = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        term += " / " + ", ".join(option.secondary_opts)
    return term if option.is_flag else f"{term} {_metavar(option)}"


def _meaning(option: Any) -> str:
    text: str = option.help or ""
    if values := choices(option):
        text = f"{text.rstrip('.')}: {', '.join(values[:-1])} or {values[-1]}."
    if option.required:
        return f"{text} [required]"
    default = getattr(option.default, "value", option.default)
    if option.is_flag or not isinstance(default, str | int | float) or default == "":
        return text
    return f"{text} [default: {default}]"
