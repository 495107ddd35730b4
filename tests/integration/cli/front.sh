#!/bin/sh
# `aios` where it is two programs: a small one for `aios run`, which passes all else to the whole one.
# Where it is one program, the same must hold but for what a missing half leads to.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"
need_sandbox

# From anywhere, by a link, and with PATH.
mkdir "$place/links"
ln -s "$AIOS" "$place/links/aios"
expect 0 "$place/links/aios" version
out_has "aios "
expect 0 env PATH="$place/links:$PATH" aios run -- echo from the path
out_is "from the path"
expect 0 env PATH="$place/links:$PATH" aios version
out_has "aios "

# A name of this machine that is resolved by modules of a shared C library is found: allowed by an
# option and by the configuration, and nothing is asked of it without.
mkfifo "$place/port"
python3 - "$place/port" 2>/dev/null <<'PYTHON' &
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
server.timeout = 60
print(server.server_port, file=open(sys.argv[1], "w"))
for _ in range(2):
    server.handle_request()
PYTHON
served=$!
trap 'kill $served 2>/dev/null || :; rm -rf "$place"' EXIT
port=$(timeout 60 head -n 1 "$place/port") || fail "the server did not start"
get="curl -sS -m 20 --noproxy none -o /dev/null -w %{http_code} http://localhost:$port/"
# shellcheck disable=SC2086 # words of a command
expect 0 "$AIOS" run --allow "localhost:$port" --allow "127.0.0.1:$port" -- $get
out_is 200
mkdir -p "$AIOS_HOME/config"
echo "{\"computer\": {\"allow\": [\"localhost:$port\", \"127.0.0.1:$port\"]}}" >"$AIOS_HOME/config/config.json"
# shellcheck disable=SC2086
expect 0 "$AIOS" run -- $get
out_is 200
rm "$AIOS_HOME/config/config.json"
# shellcheck disable=SC2086
expect 0 "$AIOS" run -- $get
out_is 403

# Installed, it is the same, with nothing of where it was built.
expect 0 cmake --install "$(dirname "$AIOS")/.." --component aios --prefix "$place/installed"
chmod 755 "$place/installed"
expect 0 "$place/installed/bin/aios" run -- echo installed
out_is installed
expect 0 "$place/installed/bin/aios" call computer_list
[ -e "$place/installed/share/aios/images/desktop/packages" ] || fail "no recipes are installed"

# Half of it alone says what is missing.
half="$(dirname "$AIOS")/../lib/aios/aios"
if [ -e "$half" ]; then
    mkdir -p "$place/half/bin"
    cp "$AIOS" "$place/half/bin/aios"
    expect 0 "$place/half/bin/aios" run -- true
    expect 1 "$place/half/bin/aios" doctor
    err_has "$place/half/bin/../lib/aios/aios: No such file or directory"
    err_has "install both"
    expect 125 "$place/half/bin/aios" run --allow localhost:1 -- true
    err_has "install both"
    mkdir -p "$place/half/lib/aios"
    cp "$half" "$place/half/lib/aios/aios"
    expect 0 "$place/half/bin/aios" version
fi
