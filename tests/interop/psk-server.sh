# The same story for every foreign TLS stack that accepts our one-time keys, and learns each by its identity.
#
# Sourced by a peer's script, which defines
#   serve PURPOSE PORT   runs the recipe: says `listening`, and for each connection who calls and what for;
#                        answers the first line that it is sent by $greeting
# and, if something has to be there before, `build`; `verifies_binders` if it does; `odd_group` if none of its
# settings forbids X448, but it knows nothing of that;
# and then calls `tell_server_story`.
# shellcheck shell=bash source-path=SCRIPTDIR disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/world.sh"
source "$(dirname "${BASH_SOURCE[0]}")/psk-recipe.sh"
need openssl openssl

greeting="hello spiffe://$trust_domain/client"
wrong_key=$(printf 'a%.0s' {1..64})

tell_server_story() {
    open_world "$@"
    open_recipes
    [[ $(type -t build) != function ]] || build
    register client "$examples_path/psk_client"
    # The command line tool stands for the server and, for `openssl s_client`, for the client, too.
    register server "$claviger_path"
    claviger entry create --wait --spiffe-id "spiffe://$trust_domain/client" \
        --selector "unix:uid:$(id -u)" --selector "unix:path:$claviger_path" >"$world/entry.out"
    open_server

    for _ in 1 2 3; do
        timeout 20 "$CLAVIGER_EXAMPLES/psk_client" --peer "spiffe://$trust_domain/server" \
            --purpose interop --message hello --address "127.0.0.1:$port" >"$world/client.out" 2>&1 ||
            fail "psk_client: $(cat "$world/client.out" "$world/server.err")"
        grep -qF "$greeting" "$world/client.out" || fail "no greeting: $(<"$world/client.out")"
    done
    ok "three connections of our connector, three keys, each spent by its identity"

    issue_for_client
    is_greeted "after a HelloRetryRequest" -groups "${odd_group:-X448}:X25519" -msg -sess_out "$world/session"
    (($(grep -ac '>>> TLS 1.3, Handshake .*, ClientHello' "$seen") == 2)) || fail "there was no retry"
    grep -qa '^Reused, TLSv1.3' "$seen" || fail "the handshake did not use the key"
    is_refused "a spent key"
    resumes_nothing

    issue_for_client
    psk_key=$wrong_key is_refused "a wrong key"
    if [[ -n ${verifies_binders:-} ]]; then
        is_greeted "a wrong key burns nothing"
    else
        is_refused "the right one after it: to be redeemed by its identity alone spends a key"
    fi
    purpose=another issue_for_client
    is_refused "a key for another purpose"
    psk_identity=p1.AAAAAAAAAAAAAAAAAAAAAA is_refused "an unknown identity"
    psk_identity='p1.$(touch x) --help    x' is_refused "a foreign kind of identity"
    psk_identity='' is_refused "no key at all, and no certificate to fall back to"
    issue_for_client
    is_refused "TLS 1.2" -tls1_2
    local greeted
    greeted=$(grep -cF "spiffe://$trust_domain/client for interop" "$world/server.out")
    ((greeted == 4 + ${verifies_binders:-0} + ${unproven:-0})) || fail "it says that it was called $greeted times: $(<"$world/server.out")"
}

# Starts the recipe, on a curve or two, so that a client that begins with another has to try again.
open_server() {
    free_port
    printf '%s\n' 'openssl_conf = here' 'nodejs_conf = here' '[here]' 'ssl_conf = tls' '[tls]' \
        'system_default = default' '[default]' 'Groups = X25519:P-256' >"$world/openssl.cnf"
    printf '%s\n' '[overrides]' 'disabled-curve = x448' >"$world/gnutls.conf"
    OPENSSL_CONF=$world/openssl.cnf GNUTLS_SYSTEM_PRIORITY_FILE=$world/gnutls.conf \
        asking serve interop "$port" >"$world/server.out" 2>"$world/server.err" &
    background+=($!)
    until_true 10 grep -qx listening "$world/server.out" || fail "no server: $(<"$world/server.err")"
}

# issue_for_client OPTION…: a key for `openssl s_client`, which is to be called `client`.
issue_for_client() { issue_psk --spiffe-id "spiffe://$trust_domain/client" "$@"; }

# s_client OPTION…: says hello with $psk_identity and $psk_key, if there is an identity; all in $seen.
s_client() {
    local key=(-psk_identity "$psk_identity" -psk "$psk_key")
    [[ -n $psk_identity ]] || key=()
    seen=$world/seen
    : >"$seen"
    { echo hello && until_true 5 grep -qaE "$greeting|:error:|closed|errno" "$seen"; } |
        timeout 20 openssl s_client -connect "127.0.0.1:$port" -nocommands "${key[@]}" \
            -ciphersuites TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256 "$@" >"$seen" 2>&1
}

# is_greeted WHAT OPTION…
is_greeted() {
    s_client "${@:2}" || true
    grep -qaF "$greeting" "$seen" || fail "$1: no greeting: $(cat "$seen" "$world/server.err")"
    ok "$1"
}

# is_refused WHAT OPTION…: the handshake does not succeed.
is_refused() {
    s_client "${@:2}" || true
    # By an alert, or by a close before there was a suite.
    if ! grep -qaE 'Cipher is \(NONE\)|SSL alert number' "$seen" || grep -qaF "$greeting" "$seen"; then
        fail "$1: not refused: $(cat "$seen" "$world/server.err")"
    fi
    ok "$1 is refused"
}

# What the server may have given out to resume a session by opens no second connection.
resumes_nothing() {
    if [[ -s $world/session ]]; then
        psk_identity='' is_refused "a session ticket" -sess_in "$world/session"
    else
        grep -qa NewSessionTicket "$seen" && fail "a ticket was sent"
        ok "no session ticket is sent"
    fi
}
