# A red prompt: this shell may break the machine.
[[ $- == *i* ]] || return
PS1='\[\e[1;31m\]\u@\h\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '
alias ls='ls --color=auto'
