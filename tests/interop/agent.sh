# A server, and an agent with settings of a script's own.
#
# Sourced after world.sh.
# shellcheck shell=bash disable=SC2034,SC2154

export CLAVIGER_SERVER_SOCKET='' SPIFFE_ENDPOINT_SOCKET=''
agent_log=''

# open_agent SETTING…: a server with $server_settings, and an agent with these settings.
open_agent() {
    CLAVIGER_SERVER_SOCKET=$world/server.sock
    SPIFFE_ENDPOINT_SOCKET=unix://$world/run/agent.sock
    agent_log=$world/agent.err
    local address
    address=127.0.0.1:$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    cat >"$world/server.toml" <<TOML
trust-domain = "$trust_domain"
data-dir = "$world/server"
listen = "$address"
admin-socket = "$CLAVIGER_SERVER_SOCKET"
${server_settings:-}
TOML
    "$CLAVIGER" server run --config "$world/server.toml" >"$world/server.out" 2>"$world/server.err" &
    background+=($!)
    until_true 20 claviger bundle show --format pem >"$world/bundle.pem" ||
        fail "the server does not answer: $(<"$world/server.err")"
    mkdir -p "$world/run"
    cat >"$world/agent.toml" <<TOML
trust-domain = "$trust_domain"
server-address = "$address"
data-dir = "$world/agent"
trust-bundle-path = "$world/bundle.pem"
socket-path = "$world/run/agent.sock"
admin-socket-path = "$world/agent-admin.sock"
join-token = "$(claviger token generate --output json 2>"$world/token.err" | json value)"
$(printf '%s\n' "$@")
TOML
    "$CLAVIGER" agent run --config "$world/agent.toml" >"$world/agent.out" 2>"$agent_log" &
    background+=($!)
    until_true 20 claviger healthcheck --agent --socket-path "$world/run/agent.sock" \
        >"$world/health.out" || fail "no agent: $(<"$agent_log")"
}

# selectors_of PID: what the agent finds out, one on a line, without what the kernel says.
selectors_of() {
    { claviger why "$1" --agent-socket "$world/agent-admin.sock" --output json 2>"$world/why.err" ||
        [[ $? == 1 ]]; } | python3 -c 'import json, sys
print("\n".join(fact for fact in json.load(sys.stdin)["facts"] if not fact.startswith("unix:")))'
}
