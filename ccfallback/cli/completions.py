"""The completion scripts of the shells.

They ask the program for candidates, so they contain no list that could become outdated.
`python -m ccfallback.cli.completions FOLDER` writes them, and what does contain lists:
`candidates.json` and the man pages.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec

from ccfallback.cli import COMPLETION, candidates

PROGRAM: Final = "ccfallback"

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
    return script.replace("{program}", PROGRAM).replace("{variable}", COMPLETION)


def find_shell(environ: Mapping[str, str]) -> str:
    """The name of the user's shell, as far as the environment tells."""
    name = PurePath(environ.get("SHELL", "")).stem
    if (not name and os.name == "nt") or name == "pwsh":
        return "powershell"
    return name or "bash"


def describe_commands() -> dict[str, Any]:
    """The commands with their options and arguments, as `candidates` reads them."""
    from ccfallback.cli.help.tables import root
    from ccfallback.config.model import Config, Provider
    from ccfallback.config.schema import defaults, dotted_keys

    config = Config(providers=(Provider(name="NAME", base_url="http://localhost"),))
    start = "providers.NAME."
    keys = (key for key in dotted_keys(defaults(config)) if key.startswith(start))
    return {
        "root": _describe(root()),
        "provider_keys": sorted(key.removeprefix(start) for key in keys),
    }


def render_commands() -> bytes:
    """`candidates.json`."""
    return msgspec.json.format(msgspec.json.encode(describe_commands()), indent=1) + b"\n"


def _describe(command: Any) -> dict[str, Any]:
    from ccfallback.cli.help import commands

    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    named = [each for each in shown if each.param_type_name == "option"]
    options = [
        [
            [*option.opts, *option.secondary_opts],
            option.help or "",
            not option.is_flag,
            bool(option.multiple),
            _offered(option),
        ]
        for option in named
    ]
    return {
        "help": commands.summary(command),
        "commands": {name: _describe(each) for name, each in commands.below(command).items()},
        "options": [*options, [["-h", "--help"], "Show this message and exit.", False, False, []]],
        "arguments": [
            {"repeats": each.nargs == -1, "offered": _offered(each)}
            for each in shown
            if each.param_type_name == "argument"
        ],
    }


def _offered(parameter: Any) -> list[str]:
    """The values of a parameter: those of its enumeration, or what its `autocompletion` names."""
    from ccfallback.cli.help import commands

    if choices := commands.choices(parameter):
        return choices
    if (ask := getattr(parameter, "_custom_shell_complete", None)) is None:
        return []
    return [str(getattr(each, "value", each)) for each in ask(None, parameter, "")]


def write_all(folder: Path) -> None:
    """Write every script and man page into a folder."""
    from ccfallback.cli.help.man import render_all

    Path(candidates.TREE).write_bytes(render_commands())
    files = {name: render_script(shell) for shell, (name, _) in SCRIPTS.items()}
    for name, text in {**files, **render_all()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
