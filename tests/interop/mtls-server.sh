# The same story for every TLS server that knows nothing of SPIFFE: `claviger svid watch` writes its
# files and has it reload them, again and again, while a client asks without a pause.
#
# Sourced by a peer's script, which defines
#   start                starts the server: TLS 1.3 on 127.0.0.1:$port, with the files in $served,
#                        only for clients with an SVID that $served/web.bundle.pem vouches for
#   watch                calls `follow web "$served"` with the flags that have it reload
#   refusal              an extended regular expression: how `curl` reports that a client without
#                        such an SVID is refused
# and then calls `tell_mtls_story`.
# shellcheck shell=bash source-path=SCRIPTDIR disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/world.sh"
need curl curl

# Seconds that an SVID lives. It is renewed at about half of that.
ttl=8
# How many more SVIDs the server has to be seen with after its first.
rotations=4
# A name that the server's entry has, for clients that know of names only.
dns_name=web.$trust_domain

# follow NAME DIR FLAG…: keeps the SVID of NAME in DIR/NAME.pem and so on; the log is DIR.log.
follow() {
    local name=$1 folder=$2
    shift 2
    mkdir "$folder"
    "$CLAVIGER" svid watch --spiffe-id "spiffe://$trust_domain/$name" --write "$folder" \
        --name "$name" --combined "$@" >"$folder.log" 2>&1 &
    background+=($!)
    # The first update's line comes after all of its files.
    until_true 10 grep -q '^update 1:' "$folder.log" || fail "no SVID for $name: $(cat "$folder.log")"
}

# entry NAME FLAG…: every claviger of this user is NAME, with SVIDs that are renewed in seconds.
entry() {
    local name=$1
    shift
    claviger entry create --wait --spiffe-id "spiffe://$trust_domain/$name" --x509-svid-ttl "$ttl" \
        --selector "unix:uid:$(id -u)" --selector "unix:path:$claviger_path" "$@" >/dev/null
}

# call FLAG…: one request, as anybody makes it who knows the server by its DNS name.
call() {
    curl --silent --show-error --fail --max-time 5 --tlsv1.3 --noproxy '*' \
        --resolve "$dns_name:$port:127.0.0.1" "$@" "https://$dns_name:$port/" 2>&1
}

answers() { call "$@" >/dev/null; }

# is_refused WHAT FLAG…: by the server, because of who calls.
is_refused() {
    local what=$1 said
    shift
    if said=$(call "$@"); then fail "$what: not refused: $said"; fi
    grep -qE "$refusal" <<<"$said" || fail "$what: refused, but so: $said"
    ok "$what is refused"
}

tell_mtls_story() {
    open_world
    entry web --dns-name "$dns_name"
    entry client
    served=$world/web
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # The server's own files come first: none of these programs starts without.
    watch
    follow client "$world/client"
    start
    local mine=(--cert "$world/client/client.combined.pem" --cacert "$world/client/client.bundle.pem")
    until_true 10 answers "${mine[@]}" || fail "no answer: $(call "${mine[@]}")"
    ok "curl with an SVID is answered, by the server's DNS name"

    is_refused "a client without a certificate" --cacert "$served/web.bundle.pem"
    make_stranger
    is_refused "a client of a foreign authority" --cacert "$served/web.bundle.pem" \
        --cert "$world/stranger.pem" --key "$world/stranger.key"

    python3 "$interop/mtls-client.py" --address "127.0.0.1:$port" --files "$world/client/client" \
        --server "spiffe://$trust_domain/web" --rotations "$rotations" >"$world/client.out" 2>&1 || {
        cat "$served.log" >&2
        fail "$(cat "$world/client.out")"
    }
    ok "$(cat "$world/client.out")"
}

# Makes a certificate that says what an SVID says, and is none.
make_stranger() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "/O=SPIRE" \
        -addext "subjectAltName=URI:spiffe://$trust_domain/client" \
        -keyout "$world/stranger.key" -out "$world/stranger.pem" 2>/dev/null
}
