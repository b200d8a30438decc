# The same story for every foreign TLS stack that dials our acceptor with a one-time key.
#
# Sourced by a peer's script, which defines
#   dial IDENTITY KEY    connects to 127.0.0.1:$acceptor_port, sends what it reads from standard
#                        input, prints what it receives and every alert; ends by itself;
#   decrypt_error        an extended regular expression: how it reports the alert decrypt_error (51)
# and then calls `tell_psk_story`; or, for a recipe of examples/psk,
#   client PEER PURPOSE HOST PORT    the same, with a key that it asks for itself
# and calls `tell_client_story`, or `try_client` after `tell_psk_story`.
# shellcheck shell=bash source-path=SCRIPTDIR disable=SC2094,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/world.sh"
source "$(dirname "${BASH_SOURCE[0]}")/psk-recipe.sh"

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
    [[ -n $world ]] || open_acceptor
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

# The story of a recipe, with keys that it is given, and what only concerns recipes.
tell_client_story() {
    dial() { given "$1" "$2" client "spiffe://$trust_domain/server" interop 127.0.0.1 "$acceptor_port"; }
    open_acceptor
    open_recipes
    tell_psk_story
    try_client
}

# What only concerns recipes: keys of its own, and whom it takes for its peer.
try_client() {
    [[ -d $world/given ]] || open_recipes
    local here=("spiffe://$trust_domain/server" interop 127.0.0.1 "$acceptor_port")
    is_greeted "the recipe, with a key that it asks for itself" asking client "${here[@]}"
    issue_psk
    is_refused "the recipe, with a wrong key" given "$psk_identity" "${psk_key//[0-9]/a}" client "${here[@]}"
    open_impostor
    turns_away "an impostor with a certificate that this machine trusts" client
}

# Starts a server that shows a certificate instead of the key. Whoever believes public authorities believes it.
open_impostor() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$world/impostor.key" -out "$world/impostor.pem" 2>"$world/openssl.err"
    python3 "$interop/psk-impostor.py" "$world/impostor.pem" "$world/impostor.key" >"$world/impostor.out" \
        2>"$world/impostor.err" &
    background+=($!)
    until_true 10 grep -q '^listening on ' "$world/impostor.out" || fail "no impostor: $(<"$world/impostor.err")"
    impostor_port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$world/impostor.out")
}

# meet_impostor COMMAND…: $met is what the impostor says of this client.
meet_impostor() {
    local before=0
    issue_psk
    before=$(wc -l <"$world/impostor.out")
    echo hello |
        SSL_CERT_FILE=$world/impostor.pem NODE_EXTRA_CA_CERTS=$world/impostor.pem given "$psk_identity" "$psk_key" \
            "$@" "spiffe://$trust_domain/server" interop 127.0.0.1 "$impostor_port" \
            >"$world/met.out" 2>&1 && met_status=0 || met_status=$?
    impostor_said_more() { (($(wc -l <"$world/impostor.out") > before)); }
    until_true 10 impostor_said_more || fail "the impostor was not even dialled: $(<"$world/met.out")"
    met=$(tail -n 1 "$world/impostor.out")
}

# turns_away WHAT COMMAND…: a client that says nothing to an impostor, and fails, unless it never `tells`.
turns_away() {
    meet_impostor "${@:2}"
    [[ $met == 'turned away'* || $met == "heard b''" ]] || fail "$1: the impostor $met"
    [[ ${tells:-yes} == no ]] || ((met_status != 0)) || fail "$1: the client did not notice"
    ok "$1: turned away"
}

# believes WHAT COMMAND…: a client that falls open. What we warn of is so, and the recipe differs in nothing else.
believes() {
    meet_impostor "${@:2}"
    [[ $met == "heard b'hello"* ]] || fail "$1: the impostor was $met; is the warning of it out of date?"
    ok "$1: believes it, as we warn"
}
