"""What there is to say about a command: its usage, its options, its examples."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ccfallback.cli.help.markup import Entry
from ccfallback.cli.options import EXAMPLE, BriefCommand

_OPTION: Final = re.compile(r"--[a-z-]+")

_TERM: Final = 22
"""Columns of an option and its value."""

HELP_OPTION: Final = Entry("-h, --help", "Show this message and exit.")

BRIEF: Final[Mapping[str, Mapping[str, str]]] = {
    "Start": {
        "--preset PRESET": "A known provider; see `providers presets`.",
        "--fill NAME=VALUE": "What it leaves open, such as resource=mine.",
    },
    "Address": {
        "--base-url URL": "The base URL, or the endpoint itself.",
        "--format FORMAT": "anthropic (default), openai, bedrock or vertex.",
        "--platform PLATFORM": "Who serves Claude, if the address does not tell.",
        "--header K=V": "A header to send; repeatable.",
    },
    "Key": {
        "--api-key-env VAR": "The variable that holds it; repeatable.",
        "--api-key-stdin": "Read it from stdin.",
        "--api-key KEY": "The key itself; `ps` and the history show it.",
        "--auth-header HEADER": "The header that carries it.",
    },
    "Login": {
        "--auth AUTH": "Instead of a key: aws, google or azure.",
        "--aws-profile, --aws-region, --aws-sign": "For aws; bearer or sigv4.",
        "--google-project, --google-location": "For google.",
    },
    "Models": {
        "--map FROM=TO": "The provider's name for a model; repeatable.",
        "--context-window N": "Tokens of a request and its answer together.",
        "--quirk K=V": "Such as max_output_tokens=8192; repeatable.",
    },
    "Limits": {
        "--retry N": "More attempts after a 5xx or network error.",
        "--cap-day USD, --cap-month USD": "What it may cost.",
    },
    "Chain": {"--position N": "1 is right after the primary."},
}
"""The options of `providers add` and `providers set` in groups; related ones share a row."""


def brief(command: Any, path: str) -> str:
    """The help of a command with many options, on one screen."""
    left = {_OPTION.findall(entry.term)[0]: entry.term for entry in options(command)}
    lines = [f"Usage: {path} {' '.join(usage(command))}", summary(command)]
    for group, rows in BRIEF.items():
        title = group
        for term, text in rows.items():
            found = [left.pop(name, None) for name in _OPTION.findall(term)]
            if any(found):
                lines.append(f"{title:<9}{f'{term}  ':<{_TERM}}{text}")
                title = ""
    more = f"{', '.join(left.values())}, --help; more: `help {path.partition(' ')[2]}`"
    lines += [f"{'Other':<9}{more}", f"{EXAMPLE}{examples(command)[-1]}"]
    return "\n".join(lines) + "\n"


def full(command: Any, context: Any) -> str:
    """The help of a command with each of its options."""
    formatter = context.make_formatter()
    if isinstance(command, BriefCommand):
        command.format_all(context, formatter)
    else:
        command.format_help(context, formatter)
    text: str = formatter.getvalue()
    return text.rstrip("\n")


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
