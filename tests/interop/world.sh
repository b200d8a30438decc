# A fresh `claviger dev` for one peer's script, and the few verbs the scripts share.
#
# Sourced, not run. A script calls `open_world`, registers its workloads, and says `ok` for each
# thing that it has checked. It ends with 0 (passed), 1 (failed), 77 (the peer is not to be had here)
# or 78 (nor has it to be: another peer stands for it).
# shellcheck shell=bash disable=SC2034
set -Eeuo pipefail

interop=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$interop/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/claviger-interop
trust_domain=interop.example.org
world='' dev=''
background=()
# A run leaves nothing in the source tree.
export PYTHONDONTWRITEBYTECODE=1

: "${CLAVIGER:=${CARGO_TARGET_DIR:-$root/target}/release/claviger}"
: "${CLAVIGER_EXAMPLES:=$(dirname "$CLAVIGER")/examples}"
# What /proc/PID/exe will say, and so what `unix:path` selectors name.
claviger_path=$(realpath "$CLAVIGER")
examples_path=$(realpath "$CLAVIGER_EXAMPLES")

claviger() { "$CLAVIGER" "$@"; }

ok() { echo "  ok    $*"; }

fail() {
    echo "  FAIL  $*" >&2
    exit 1
}

skip() {
    echo "  skip  $*"
    exit 77
}

leave_out() {
    echo "  none  $*"
    exit 78
}

trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
trap close_world EXIT

# open_world OPTION…: starts server and agent in a directory of their own, and exports where they listen.
open_world() {
    # Socket paths have at most 107 bytes, so the directory's name is short.
    [[ -n $world ]] || world=$(mktemp -d /tmp/claviger-interop.XXXXXX)
    "$CLAVIGER" dev --dir "$world/dev" --trust-domain "$trust_domain" "$@" \
        >"$world/dev.out" 2>"$world/dev.err" &
    dev=$!
    until_true 20 grep -qx ready "$world/dev.out" || {
        cat "$world/dev.err" >&2
        fail "claviger dev did not become ready within 20 s"
    }
    eval "$(grep '^export ' "$world/dev.out")"
}

# Ends everything that was started. `claviger dev` has to end well, too.
close_world() {
    local status=$?
    trap - EXIT ERR
    set +e
    for pid in "${background[@]}"; do kill "$pid"; done 2>/dev/null
    if [[ -n $dev ]]; then
        kill -TERM "$dev" 2>/dev/null
        wait "$dev"
        local ended=$?
        if ((ended != 0)); then
            echo "  FAIL  claviger dev ended with status $ended" >&2
            ((status == 0)) && status=1
        fi
        ((status == 1)) && sed 's/^/  dev   /' "$world/dev.err" >&2
    fi
    [[ -n $world ]] && rm -rf "$world"
    exit "$status"
}

# until_true SECONDS COMMAND…: waits until COMMAND succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# register NAME PATH [OPTION…]: entitles the program at PATH, run by this user, to spiffe://…/NAME.
register() {
    claviger entry create --wait \
        --spiffe-id "spiffe://$trust_domain/$1" \
        --selector "unix:uid:$(id -u)" --selector "unix:path:$2" "${@:3}" >"$world/entry-$1.out"
}

# json FIELD: the field of the JSON object on standard input.
json() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Issues a key for one connection of this script (as `client`) to `server`, for $purpose: $psk_identity,
# $psk_key (hexadecimal).
issue_psk() {
    local issued
    issued=$(claviger psk issue --output json \
        --peer "spiffe://$trust_domain/server" --purpose "${purpose:-interop}" "$@" 2>"$world/issue.err") ||
        fail "psk issue: $(cat "$world/issue.err")"
    psk_identity=$(json identity <<<"$issued")
    psk_key=$(json key <<<"$issued")
}

# Starts the example acceptor as the workload `server`, and this script's claviger as `client`.
open_acceptor() {
    open_world
    register client "$claviger_path"
    register server "$examples_path/psk_server"
    "$CLAVIGER_EXAMPLES/psk_server" --listen 127.0.0.1:0 --purpose interop \
        >"$world/acceptor.out" 2>"$world/acceptor.err" &
    background+=($!)
    until_true 10 grep -q '^listening on ' "$world/acceptor.out" || {
        cat "$world/acceptor.err" >&2
        fail "the acceptor did not start within 10 s"
    }
    acceptor_port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$world/acceptor.out")
}

# need COMMAND PACKAGE: installs Debian's PACKAGE unless COMMAND is there.
need() {
    command -v "$1" >/dev/null || install_package "$2"
    command -v "$1" >/dev/null || skip "$1 is missing: install the package $2"
}

# alone NAME COMMAND…: peers work beside each other; of those that do NAME, one at a time.
alone() {
    local lock status=0
    exec {lock}>"$cache/$1.lock"
    flock "$lock"
    "${@:2}" {lock}>&- || status=$?
    exec {lock}>&-
    return "$status"
}

install_package() { alone packages do_install_package "$1"; }

do_install_package() {
    ((EUID == 0)) && command -v apt-get >/dev/null || return 0
    local log=$cache/apt.log get=(apt-get install -y -q --no-install-recommends "$1")
    "${get[@]}" >"$log" 2>&1 || { apt-get update -q && "${get[@]}"; } >"$log" 2>&1 || cat "$log" >&2
}

# install_python_packages VENV REQUIREMENTS: makes VENV hold what the file REQUIREMENTS lists.
install_python_packages() { alone "$(basename "$1")" do_install_python_packages "$@"; }

do_install_python_packages() {
    ! cmp -s "$2" "$1/installed.txt" || return 0
    rm -rf "$1"
    # Debian packs venv apart from Python.
    python3 -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    python3 -m venv "$1" &&
        "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2" &&
        cp "$2" "$1/installed.txt"
}

# install_grpc_js: puts @grpc/grpc-js and its like into $cache/grpc-js.
install_grpc_js() { alone grpc-js do_install_grpc_js; }

do_install_grpc_js() {
    local home=$cache/grpc-js from=$interop/grpc-js
    ! cmp -s "$from/package-lock.json" "$home/installed.json" || return 0
    mkdir -p "$home"
    cp "$from/package.json" "$from/package-lock.json" "$home"
    # No package needs a script to be installed.
    (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) &&
        cp "$from/package-lock.json" "$home/installed.json"
}

# need_go VERSION: puts a Go of at least VERSION on the path, from Python's packages where Debian's is
# older.
need_go() {
    # An older Go would fetch a newer one by itself, and that is not to depend on.
    export CGO_ENABLED=0 GOTOOLCHAIN=local
    has_go "$1" || {
        install_python_packages "$cache/go" "$interop/go-spiffe/requirements.txt"
        PATH=$cache/go/bin:$PATH
    }
    has_go "$1" || skip "Go $1 or newer is missing"
}

has_go() {
    command -v go >/dev/null && printf '%s\n' "$1" "$(go env GOVERSION | sed 's/^go//')" | sort -CV
}

mkdir -p "$cache"
need python3 python3
