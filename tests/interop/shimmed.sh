# The same story for every program that knows nothing of TLS, PSKs or SPIFFE: an unchanged client and an
# unchanged server talk through a pair of shims, in both modes.
#
# Sourced by a peer's script, which defines
#   program              the client's executable, as /proc/PID/exe names it
#   serve                starts the server, without TLS, and sets $backend to HOST:PORT or unix:PATH
#   ask PORT             lets the client ask the server at 127.0.0.1:PORT, and prints what it says
#   answer               what it says then
# and then calls `tell_shim_story`.
# shellcheck shell=bash source-path=SCRIPTDIR disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/world.sh"

modes=(psk mtls)

tell_shim_story() {
    open_world
    serve
    # The shims are of one program, and say which of its identities they act as.
    register server "$claviger_path"
    for name in client stranger; do
        claviger entry create --wait --spiffe-id "spiffe://$trust_domain/$name" \
            --selector "unix:uid:$(id -u)" --selector "unix:path:$claviger_path" >"$world/entry-$name.out"
    done
    register client "$program"
    find_ports
    open_inbound
    open_outbound client '' 0
    open_outbound stranger 'callers = "anybody"' 2

    local mode at
    for at in 0 1; do
        mode=${modes[at]}
        asks "${doors[at]}" || fail "$mode: $(cat "$world/asked" "$world"/shim-*.err)"
        asks "${doors[at]}" || fail "$mode, again: $(<"$world/asked")"
        ok "$mode: two conversations, client and server unchanged"
        refuses "${doors[at + 2]}" && ok "$mode: a shim with another identity gets nowhere"
    done
    entitled_no_more
    check_records
}

# Six ports: the ways in and the doors of both shims, each in both modes.
find_ports() {
    local ports
    mapfile -t ports < <(python3 -c 'import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
for one in sockets: print(one.getsockname()[1])')
    ways_in=("${ports[@]:0:2}") doors=("${ports[@]:2}")
}

open_inbound() {
    {
        printf '%s\n' "spiffe-id = \"spiffe://$trust_domain/server\"" '[access]' "file = \"$world/server.jsonl\""
        for at in 0 1; do
            printf '%s\n' '[[inbound]]' "name = \"in-${modes[at]}\"" "listen = \"127.0.0.1:${ways_in[at]}\"" \
                "to = \"$backend\"" "mode = \"${modes[at]}\"" 'purpose = "interop"' \
                "peers = [\"spiffe://$trust_domain/client\"]"
        done
    } >"$world/server.toml"
    start_shim server "${ways_in[0]}"
}

# open_outbound NAME SETTING FIRST: the shim that acts as NAME, with doors from the FIRST on.
open_outbound() {
    {
        printf '%s\n' "spiffe-id = \"spiffe://$trust_domain/$1\"" '[access]' "file = \"$world/$1.jsonl\""
        for at in 0 1; do
            printf '%s\n' '[[outbound]]' "name = \"out-${modes[at]}\"" "listen = \"127.0.0.1:${doors[at + $3]}\"" \
                "to = \"127.0.0.1:${ways_in[at]}\"" "peer = \"spiffe://$trust_domain/server\"" \
                "mode = \"${modes[at]}\"" 'purpose = "interop"' "$2"
        done
    } >"$world/$1.toml"
    start_shim "$1" "${doors[$3]}"
}

start_shim() {
    "$CLAVIGER" shim run --config "$world/$1.toml" >"$world/shim-$1.out" 2>"$world/shim-$1.err" &
    background+=($!)
    until_true 10 listens "$2" || fail "the shim of $1 did not start: $(<"$world/shim-$1.err")"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>"$world/listens.err"; }

asks() {
    ask "$1" >"$world/asked" 2>&1 && grep -qF "$answer" "$world/asked"
}

refuses() {
    ! asks "$1" || fail "a stranger was answered: $(<"$world/asked")"
}

# The client's own entry goes, and with it the door: who is at it is asked for each connection.
entitled_no_more() {
    local entry
    entry=$(claviger entry show --output json --selector "unix:path:$program" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["entries"][0]["entry_id"])')
    claviger entry delete --entry-id "$entry" >"$world/delete.out"
    is_refused() { ! asks "${doors[0]}" && ! asks "${doors[1]}"; }
    until_true 10 is_refused || fail "a program without an identity was answered"
    ok "the same program without its entry: not let in at the door"
}

# Both ends of each connection, who they are, and that they mean the same one.
check_records() {
    python3 "$interop/shim-records.py" "$world/client.jsonl" "$world/server.jsonl" "spiffe://$trust_domain" ||
        fail "the access records: $(cat "$world"/*.jsonl)"
    ok "both access records name both identities, the program's too, and the same exporter value"
}
