set +o history +H; unset HISTFILE MAILCHECK; export -n PS1 PS2; shopt -s expand_aliases
__aios_done() { local status=$? end=$EPOCHREALTIME; builtin printf 'status %d %d 0\ndone %d %d 0\n' "$1" "$status" "$1" "$((${end/[^0-9]/} - ${__aios_t/[^0-9]/}))"; PS1= PS2=; return "$status"; }
__aios_begin() { local status=$?; __aios_t=$EPOCHREALTIME; return "$status"; }
