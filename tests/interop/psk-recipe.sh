# What the scripts of examples/psk need to be run as they stand.
#
# Sourced after world.sh.
# shellcheck shell=bash disable=SC2034,SC2154

recipes=$root/examples/psk

# Puts the `claviger` under test on the path of `asking`, and on that of `given` one that has the key it is told.
open_recipes() {
    mkdir "$world/bin" "$world/given"
    ln -s "$claviger_path" "$world/bin/claviger"
    cat >"$world/given/claviger" <<'SH'
#!/bin/sh
case " $* " in
*" json "*) printf '{"identity":"%s","key":"%s"}\n' "$PSK_IDENTITY" "$PSK_KEY" ;;
*) printf 'identity  %s\nkey       %s\n' "$PSK_IDENTITY" "$PSK_KEY" ;;
esac
SH
    chmod +x "$world/given/claviger"
}

# asking COMMAND…: it asks for its keys itself.
asking() { PATH=$world/bin:$PATH "$@"; }

# given IDENTITY KEY COMMAND…: it is given this key, whatever it asks for.
given() { PSK_IDENTITY=$1 PSK_KEY=$2 PATH=$world/given:$PATH "${@:3}"; }

# compile NAME SOURCE FLAG…: builds the recipe SOURCE.c as the program NAME.
compile() {
    cc -Wall -Wextra -Werror -O1 -o "$world/$1" "$recipes/$2.c" "$recipes/claviger_psk.c" "${@:3}" \
        2>"$world/cc.err" || fail "$2.c: $(<"$world/cc.err")"
}

# find_python: sets $python to one whose TLS knows external keys; they came with 3.13.
find_python() {
    local candidate
    for candidate in python3.13 python3.14 python3 "$HOME"/.pyenv/versions/3.1[3-9]*/bin/python; do
        python=$candidate
        "$python" -c 'import ssl; ssl.SSLContext.set_psk_client_callback' 2>/dev/null && return
    done
    leave_out "no Python 3.13 or later here; node-client and node-server stand for the same kind of callback"
}

# free_port: sets $port.
free_port() {
    port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
}
