# fish completion for ccfallback

function __ccfallback_complete
    env _CCFALLBACK_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline -cp) ccfallback 2>/dev/null
end

complete --command ccfallback --no-files \
    --condition "__ccfallback_complete is-args" \
    --arguments "(__ccfallback_complete get-args)"
