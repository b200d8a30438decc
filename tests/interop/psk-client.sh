# The same story for every foreign TLS stack that dials our acceptor with a one-time key.
#
# Sourced by a peer's script, which defines
#   dial IDENTITY KEY    connects to 127.0.0.1:$acceptor_port, sends what it reads from standard
#                        input, prints what it receives and every alert; ends by itself;
#   decrypt_error        an extended regular expression: how it reports the alert decrypt_error (51)
# and then calls `tell_psk_story`.
# shellcheck shell=bash source-path=SCRIPTDIR disable=SC2094,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/world.sh"

# What the acceptor answers: it knows who called.
greeting=

# conversation COMMAND…: a client's whole exchange, in $seen; input ends when the outcome is known.
conversation() {
    seen=$world/conversation
    : >"$seen"
    { echo hello && until_true 10 grep -qaE "$greeting|$decrypt_error" "$seen"; } |
        "$@" >"$seen" 2>&1 || true
}

# is_greeted WHAT COMMAND…
is_greeted() {
    local what=$1
    shift
    conversation "$@"
    grep -qaF "$greeting" "$seen" || {
        cat "$seen" "$world/acceptor.err" >&2
        fail "$what: no greeting from the acceptor"
    }
    ok "$what"
}

# is_refused WHAT COMMAND…: by decrypt_error, and without a byte of application data.
is_refused() {
    local what=$1
    shift
    conversation "$@"
    if ! grep -qaE "$decrypt_error" "$seen" || grep -qaF "$greeting" "$seen"; then
        cat "$seen" "$world/acceptor.err" >&2
        fail "$what: not refused by decrypt_error"
    fi
    ok "$what: decrypt_error"
}

tell_psk_story() {
    open_acceptor
    greeting="spiffe://$trust_domain/client"

    issue_psk
    local wrong_key=${psk_key//[0-9]/a}
    is_greeted "one key, one connection" dial "$psk_identity" "$psk_key"
    is_refused "the same key again" dial "$psk_identity" "$psk_key"

    issue_psk
    is_refused "a wrong key" dial "$psk_identity" "$wrong_key"
    is_greeted "a wrong key burns nothing" dial "$psk_identity" "$psk_key"

    is_refused "an unknown identity" dial p1.AAAAAAAAAAAAAAAAAAAAAA "$wrong_key"
    is_refused "a foreign kind of identity" dial Client_identity "$wrong_key"

    issue_psk --ttl 1
    sleep 2.1
    is_refused "an expired key" dial "$psk_identity" "$psk_key"
}
