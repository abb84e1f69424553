# PowerShell completion for ccfallback

Register-ArgumentCompleter -Native -CommandName ccfallback -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $Env:_CCFALLBACK_COMPLETE = "complete_powershell"
    $Env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    try {
        ccfallback 2>$null | ForEach-Object {
            $value, $help = $_ -Split ":::", 2
            if (-not $help.Trim()) { $help = $value }
            [System.Management.Automation.CompletionResult]::new(
                $value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_CCFALLBACK_COMPLETE, Env:_TYPER_COMPLETE_ARGS, Env:_TYPER_COMPLETE_WORD_TO_COMPLETE
    }
}
