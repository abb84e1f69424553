"""The completion scripts of the shells.

They ask the program for candidates, so they contain no list that could become outdated.
`python -m ccfallback.cli.completions FOLDER` writes them and the man pages, which do contain lists.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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


def write_all(folder: Path) -> None:
    """Write every script and man page into a folder."""
    from ccfallback.cli.help.man import render_all

    files = {name: render_script(shell) for shell, (name, _) in SCRIPTS.items()}
    for name, text in {**files, **render_all()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
