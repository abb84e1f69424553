"""Shell completions and the man page, made from the program itself.

The scripts only ask the program what may come next, so they hold no list that could grow stale; the
man page does.
`python -m ccfallback.cli.completions FOLDER` writes them all.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROGRAM: Final = "ccfallback"
VARIABLE: Final = "_CCFALLBACK_COMPLETE"
"""What typer looks for; it derives the name from the program's."""

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

FILES: Final[Mapping[str, tuple[str, str]]] = {
    "bash": (f"{PROGRAM}.bash", BASH),
    "zsh": (f"_{PROGRAM}", ZSH),
    "fish": (f"{PROGRAM}.fish", FISH),
    "powershell": (f"{PROGRAM}.ps1", POWERSHELL),
}
"""A shell's file and what is in it."""


def render(shell: str) -> str:
    """The completion script for a shell."""
    _, script = FILES[shell]
    return script.replace("{program}", PROGRAM).replace("{variable}", VARIABLE)


def prepare(environ: Mapping[str, str]) -> None:
    """Make typer answer a completion script, if one is asking."""
    if VARIABLE in environ:
        # typer does this only for apps that offer `--install-completion`.
        from typer._completion_classes import completion_init

        completion_init()


def write(folder: Path) -> None:
    """Write every script into a folder, and the man page."""
    from ccfallback.cli import manual

    (folder / manual.FILE).write_text(manual.render(), encoding="utf-8", newline="\n")
    for shell, (name, _) in FILES.items():
        (folder / name).write_text(render(shell), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
