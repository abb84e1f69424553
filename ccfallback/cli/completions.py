"""Shell completions and the man page, generated from the commands themselves.

The completion scripts ask the program for candidates, so they contain no list that could become
outdated; the man page does. `python -m ccfallback.cli.completions FOLDER` writes all of them.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, NamedTuple

import typer

from ccfallback import __version__
from ccfallback.cli.console import ExitCode
from ccfallback.cli.options import EXAMPLE

PROGRAM: Final = "ccfallback"
VARIABLE: Final = "_CCFALLBACK_COMPLETE"
"""The variable by which a script asks for candidates; typer derives its name from the program's."""

BASH: Final = """\
# bash completion for {program}

_{program}_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        {variable}=complete_bash "$1" 2>/dev/null))
}

complete -o default -F _{program}_completion {program}
"""

ZSH: Final = """\
#compdef {program}

_{program}_completion() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" {variable}=complete_zsh \\
        {program} 2>/dev/null)"
}

# Loaded from $fpath, the file is the function, and this is its first call.
if [[ ${funcstack[1]} == _{program} ]]; then
    _{program}_completion "$@"
else
    compdef _{program}_completion {program}
fi
"""

FISH: Final = """\
# fish completion for {program}

function __{program}_complete
    env {variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) {program} 2>/dev/null
end

complete --command {program} --no-files \\
    --condition "__{program}_complete is-args" \\
    --arguments "(__{program}_complete get-args)"
"""

POWERSHELL: Final = """\
# PowerShell completion for {program}

Register-ArgumentCompleter -Native -CommandName {program} -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $Env:{variable} = "complete_powershell"
    $Env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    try {
        {program} 2>$null | ForEach-Object {
            $value, $help = $_ -Split ":::", 2
            if (-not $help.Trim()) { $help = $value }
            [System.Management.Automation.CompletionResult]::new(
                $value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:{variable}, Env:_TYPER_COMPLETE_ARGS, Env:_TYPER_COMPLETE_WORD_TO_COMPLETE
    }
}
"""

SCRIPTS: Final[Mapping[str, tuple[str, str]]] = {
    "bash": (f"{PROGRAM}.bash", BASH),
    "zsh": (f"_{PROGRAM}", ZSH),
    "fish": (f"{PROGRAM}.fish", FISH),
    "powershell": (f"{PROGRAM}.ps1", POWERSHELL),
}
"""The file name and the script of each shell."""


def render_script(shell: str) -> str:
    """The completion script for a shell."""
    _, script = SCRIPTS[shell]
    return script.replace("{program}", PROGRAM).replace("{variable}", VARIABLE)


def enable(environ: Mapping[str, str]) -> None:
    """Let typer answer a completion script, if one is asking."""
    if VARIABLE in environ:
        # What typer does for an app with `--install-completion`; called for its side effect.
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()


# -- What there is to say about a command


class Entry(NamedTuple):
    """An argument or option and its meaning."""

    term: str
    text: str


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


def commands(command: Any) -> dict[str, Any]:
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


def _choices(option: Any) -> list[str]:
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
    choices = _choices(option)
    if choices:
        text = f"{text.rstrip('.')}: {', '.join(choices[:-1])} or {choices[-1]}."
    if option.required:
        return f"{text} [required]"
    default = getattr(option.default, "value", option.default)
    if option.is_flag or not isinstance(default, str | int | float) or default == "":
        return text
    return f"{text} [default: {default}]"


# -- The man page

MAN_PAGE: Final = "ccfallback.1"

DESCRIPTION: Final = (
    "A proxy on your own machine between Claude Code, or any client of the Anthropic API, and its "
    "providers. Each request goes to Anthropic first, and to your fallback providers if Anthropic "
    "refuses it, fails, stalls or breaks off.",
    "Data goes to stdout, messages to stderr. With --json, stdout is one JSON document, also if "
    "the command fails.",
)

FILES: Final = (
    Entry("~/.config/ccfallback/config.toml", "The configuration: TOML, mode 0600."),
    Entry("~/.local/state/ccfallback/state.json", "The state of the breakers."),
    Entry("~/.local/state/ccfallback/log/ccfallback.jsonl", "The log: one JSON object per line."),
)

ENVIRONMENT: Final = (
    Entry("CCFALLBACK_CONFIG", "The config file; --config takes precedence."),
    Entry("CCFALLBACK_STATE", "The breaker state; --state takes precedence."),
    Entry("CCFALLBACK_LOG_FILE", "The log; --log-file takes precedence."),
    Entry("CCFALLBACK_DEBUG", "If set, an unexpected error shows its traceback."),
    Entry(
        "CCFALLBACK_EVENT, CCFALLBACK_MESSAGE, CCFALLBACK_PROVIDER, CCFALLBACK_INSTEAD_OF, "
        "CCFALLBACK_REASON, CCFALLBACK_SESSION, CCFALLBACK_REQUEST",
        "Set for the command of notify.command: failover or recovery, and its facts.",
    ),
    Entry("NO_COLOR", "If set, the output has no colours."),
    Entry("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "How to reach providers; see network.proxy."),
)
"""The variables that change what the program does; the README lists the others."""

EXIT_STATUS: Final = {
    ExitCode.DONE: "Success.",
    ExitCode.FAILED: "Failure; one line on stderr says what failed, why, and what to do.",
    ExitCode.USAGE: "Wrong usage.",
    ExitCode.INTERRUPTED: "Interrupted.",
}


def render_man_page() -> str:
    """The man page, in roff."""
    from ccfallback.cli.root import app

    return "\n".join(_page(typer.main.get_command(app))) + "\n"


def _page(root: Any) -> Iterator[str]:
    name = summary(root).rstrip(".")
    yield f'.TH CCFALLBACK 1 "" "ccfallback {__version__}" "User Commands"'
    yield from (".SH NAME", f"ccfallback \\- {_text(name[:1].lower() + name[1:])}")
    yield from (".SH SYNOPSIS", ".B ccfallback", _text(" ".join(usage(root))))
    yield from (".SH DESCRIPTION", *_paragraphs(DESCRIPTION))
    yield from (".SH OPTIONS", "These options precede the command and apply to all commands.")
    yield from _list([*options(root), Entry("-h, --help", "Show this message and exit.")])
    yield ".SH COMMANDS"
    for name, command in commands(root).items():
        yield from _command(f"ccfallback {name}", command)
    yield from (".SH FILES", *_list(FILES))
    yield from (".SH ENVIRONMENT", *_list(ENVIRONMENT))
    yield ".SH EXIT STATUS"
    yield from _list(Entry(str(int(code)), text) for code, text in EXIT_STATUS.items())
    yield from (".SH EXAMPLES", *_examples(root))


def _command(name: str, command: Any) -> Iterator[str]:
    below = commands(command)
    if not below:
        yield f".SS {_text(' '.join((name, *usage(command))))}"
        yield from _paragraphs((command.help or "").split("\n\n"))
        yield from _list([*arguments(command), *options(command)])
        yield from (".PP", "Example:", ".PP", *_examples(command))
    for verb, each in below.items():
        yield from _command(f"{name} {verb}", each)


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield from _lines(text)


def _list(entries: Iterable[Entry]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", f".B {_text(term)}", *_lines(text))


def _examples(command: Any) -> Iterator[str]:
    yield from (".nf", ".RS 4", *map(_text, examples(command)), ".RE", ".fi")


def _lines(text: str) -> Iterator[str]:
    """Running text in lines of a readable length."""
    words = " ".join(text.split())
    for line in wrap(words, 72, break_long_words=False, break_on_hyphens=False):
        yield _text(line)


def _text(text: str) -> str:
    """The text with roff's special characters escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write_all(folder: Path) -> None:
    """Write every script and the man page into a folder."""
    files = {name: render_script(shell) for shell, (name, _) in SCRIPTS.items()}
    for name, text in {**files, MAN_PAGE: render_man_page()}.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
