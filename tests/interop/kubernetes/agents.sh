# A server that believes Kubernetes clusters, and agents that show it tokens.
#
# Sourced after cluster.sh.
# shellcheck shell=bash disable=SC2034,SC2154

server_log=''
declare -A agent_pid

start_server() {
    local port
    port=$(free_port)
    server_log=$world/server.err
    server_address=127.0.0.1:$port
    export CLAVIGER_SERVER_SOCKET=$world/server.sock
    {
        cat <<TOML
trust-domain = "$trust_domain"
data-dir = "$world/server"
listen = "$server_address"
admin-socket = "$CLAVIGER_SERVER_SOCKET"
agent-svid-ttl = "12s"
TOML
        for cluster in prod bound offline dev; do
            local file=prod
            [[ $cluster != dev ]] || file=dev
            cat <<TOML
[attestors.k8s_psat.$cluster]
kubeconfig = "$world/server-$file.kubeconfig"
service-account-allow-list = ["$namespace:$account"]
audience = ["$audience"]
allowed-pod-label-keys = ["app"]
allowed-node-label-keys = ["zone"]
require-binding = $([[ $cluster == bound ]] && echo true || echo false)
offline-keys = $([[ $cluster == offline ]] && echo true || echo false)
timeout = "2s"
TOML
        done
    } >"$world/server.toml"
    "$CLAVIGER" server run --config "$world/server.toml" >"$world/server.out" 2>"$server_log" &
    background+=($!)
    until_true 20 claviger bundle show --format pem >"$world/bundle.pem" || {
        cat "$server_log" >&2
        fail "the server does not answer within 20 s"
    }
}

# start_agent NAME CLUSTER TOKEN [SETTING…]: an agent that knows nobody yet.
start_agent() {
    rm -rf "$world/agent-$1"
    printf '%s' "$3" >"$world/$1.token"
    cat >"$world/agent-$1.toml" <<TOML
trust-domain = "$trust_domain"
server-address = "$server_address"
data-dir = "$world/agent-$1"
trust-bundle-path = "$world/bundle.pem"
socket-path = "$world/agent-$1.sock"
[attestor.k8s_psat]
cluster = "$2"
token-path = "$world/$1.token"
$(printf '%s\n' "${@:4}")
TOML
    seen=$(wc -l <"$server_log")
    "$CLAVIGER" agent run --config "$world/agent-$1.toml" \
        >"$world/agent-$1.out" 2>"$world/agent-$1.err" &
    agent_pid[$1]=$!
    background+=($!)
}

stop_agent() {
    kill "${agent_pid[$1]}"
    wait "${agent_pid[$1]}" || fail "the agent ended with status $?: $(<"$world/agent-$1.err")"
}

# expect PATTERN: waits until the server says so, after what it said before. One renewal takes 6 s.
expect() {
    until_true 15 says_now "$1" || {
        tail -n "+$((seen + 1))" "$server_log" >&2
        cat "$world"/agent-*.err >&2
        fail "the server did not say: $1"
    }
    seen=$(wc -l <"$server_log")
}

says_now() { tail -n "+$((seen + 1))" "$server_log" | grep -E "$1" >/dev/null; }

# refused CLUSTER TOKEN REASON: an agent with this token is not admitted, for this reason.
refused() {
    start_agent stranger "$1" "$2"
    expect "node refused.*$3"
    # It gives up, or tries again if nobody could tell.
    kill "${agent_pid[stranger]}" 2>/dev/null || true
    wait "${agent_pid[stranger]}" || true
    [[ ! -S $world/agent-stranger.sock ]] || fail "a refused agent serves workloads"
}

# The selectors of an agent, one on a line.
selectors_of() {
    claviger agent show --spiffe-id "$1" --output json | grep -o 'k8s_psat:[^"]*' | sort
}

# asked_for_each N: whether, since remember_questions, the server has asked prod's API server N
# questions for each attestation.
remember_questions() { asked_before=$(questions prod | wc -l) attested_before=$(attestations); }
asked_for_each() {
    (($(questions prod | wc -l) - asked_before == $1 * ($(attestations) - attested_before)))
}
attestations() { grep -c 'agent attested' "$server_log" || true; }

# What the server has asked the API server of a cluster; and for how long, in milliseconds from the
# first question's arrival to the last answer.
questions() { audited "$1" 'print(event["verb"], event["requestURI"])'; }
span_of() {
    audited "$1" 'print(event["requestReceivedTimestamp"]); print(event["stageTimestamp"])' | sort |
        python3 -c 'import sys, datetime
times = [datetime.datetime.fromisoformat(line.strip().rstrip("Z")) for line in sys.stdin]
print(round((times[-1] - times[0]).total_seconds() * 1000, 1))'
}

# audited CLUSTER CODE: runs CODE for each `event` of the cluster's audit log that is the server's.
audited() {
    python3 - "${kube_dir[$1]}/audit.log" "system:serviceaccount:$namespace:claviger-server" "$2" <<'PYTHON'
import json, sys
for line in open(sys.argv[1]):
    event = json.loads(line)
    if event["user"]["username"] == sys.argv[2]:
        exec(sys.argv[3])
PYTHON
}

audit_says() { claviger audit export 2>&1 | grep "$1" >/dev/null || fail "the audit log does not say $1"; }

delete_pod() {
    kube prod DELETE "/api/v1/namespaces/$namespace/pods/$1?gracePeriodSeconds=0" >"$world/delete.out"
}

# signed_again CLUSTER TOKEN SECONDS: TOKEN as it would be if CLUSTER had made it SECONDS later.
signed_again() {
    python3 - "${kube_dir[$1]}/tokens.key" "$2" "$3" <<'PYTHON'
import base64, json, subprocess, sys
key, token, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
header, payload, _ = token.split(".")
claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
for name in "exp", "iat", "nbf":
    claims[name] += seconds
signed = header + "." + encode(json.dumps(claims).encode())
sign = ["openssl", "dgst", "-sha256", "-sign", key]
print(signed + "." + encode(subprocess.run(sign, input=signed.encode(), capture_output=True, check=True).stdout))
PYTHON
}

# request_as_agent POD UID: asks for a token that is bound to POD, as the agent of agent-1.
request_as_agent() {
    curl --silent --fail-with-body --max-time 10 --cacert "${kube_dir[prod]}/apiserver.crt" \
        -H "Authorization: Bearer $(<"$world/api.token")" -H 'Content-Type: application/json' \
        -d "{\"spec\": {\"audiences\": [\"$audience\"], \"expirationSeconds\": 600, \"boundObjectRef\":
            {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"name\": \"$1\", \"uid\": \"$2\"}}}" \
        "${kube_url[prod]}/api/v1/namespaces/$namespace/serviceaccounts/$account/token"
}

server_may_not_review() {
    local status
    status=$(curl --silent --max-time 10 --cacert "${kube_dir[prod]}/apiserver.crt" --output /dev/null \
        -H "Authorization: Bearer $(sed -n 's/.*{token: "\(.*\)"}.*/\1/p' "$world/server-prod.kubeconfig")" \
        -H 'Content-Type: application/json' -d '{}' -w '%{http_code}' "${kube_url[prod]}$review")
    [[ $status == 403 ]]
}
