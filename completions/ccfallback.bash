# bash completion for ccfallback

_ccfallback_completion() {
    local IFS=$'\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _CCFALLBACK_COMPLETE=complete_bash "$1" 2>/dev/null))
}

complete -o default -F _ccfallback_completion ccfallback
