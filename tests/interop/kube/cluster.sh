# Real Kubernetes API servers, each with what a cluster without kubelets is: etcd, keys and names.
#
# Sourced after world.sh. `open_cluster NAME` starts one and leaves in the associative arrays, by
# NAME: `kube_url`, `kube_config` (a kubeconfig of an administrator), `kube_dir` and `kube_pid`. There
# is no scheduler, controller or kubelet: nodes and pods are what a script says they are.
# shellcheck shell=bash disable=SC2034,SC2154

kube=$interop/kube
kube_version=$(sed -n 's/^\tk8s.io\/kubernetes //p' "$kube/go.mod")
kube_apiserver=$cache/kubernetes/kube-apiserver-$kube_version
declare -A kube_url kube_config kube_dir kube_pid
etcd_url=''

# Without its etcd, an API server never gets ready to end.
close_clusters() {
    local status=$?
    trap - ERR EXIT
    set +e
    kill -KILL "${kube_pid[@]}" 2>/dev/null
    wait "${kube_pid[@]}" 2>/dev/null
    (exit "$status")
    close_world
}
trap close_clusters EXIT

# Builds the API server unless it was built before: 5 minutes of processor time.
build_kube() { alone kubernetes do_build_kube; }

do_build_kube() {
    [[ ! -x $kube_apiserver ]] || return 0
    need_go "$(sed -n 's/^go //p' "$kube/go.mod")"
    local component=k8s.io/component-base/version
    (cd "$kube" && nice go build -mod=readonly -trimpath -buildvcs=false -o "$kube_apiserver.part" \
        -ldflags "-s -w -X $component.gitVersion=$kube_version" .)
    mv "$kube_apiserver.part" "$kube_apiserver"
}

free_port() {
    python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

open_etcd() {
    [[ -z $etcd_url ]] || return 0
    need etcd etcd-server
    etcd_url=http://127.0.0.1:$(free_port)
    local peer_url
    peer_url=http://127.0.0.1:$(free_port)
    etcd --data-dir "$world/etcd" --listen-client-urls "$etcd_url" \
        --advertise-client-urls "$etcd_url" --listen-peer-urls "$peer_url" \
        --initial-advertise-peer-urls "$peer_url" --initial-cluster "default=$peer_url" \
        >"$world/etcd.log" 2>&1 &
    background+=($!)
}

# open_cluster NAME: a cluster of its own, with its own keys and its own part of the one etcd.
open_cluster() {
    build_kube
    open_etcd
    local dir=$world/kube-$1 port
    mkdir "$dir"
    port=$(free_port)
    kube_dir[$1]=$dir kube_url[$1]=https://127.0.0.1:$port kube_config[$1]=$dir/admin.kubeconfig
    openssl genrsa -out "$dir/tokens.key" 2048 2>/dev/null
    openssl rand -hex 16 >"$dir/admin.token"
    echo "$(<"$dir/admin.token"),admin,admin,system:masters" >"$dir/tokens.csv"
    cat >"$dir/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
YAML
    start_kube "$1"
    # A chain of a certificate and its authority, written when the server first starts.
    write_kubeconfig "$1" "$(<"$dir/admin.token")" >"${kube_config[$1]}"
}

# start_kube NAME: starts the API server of an open cluster (again) and waits until it is ready.
start_kube() {
    local dir=${kube_dir[$1]} port=${kube_url[$1]##*:}
    "$kube_apiserver" --etcd-servers="$etcd_url" --etcd-prefix="/$1" \
        --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$port" \
        --service-cluster-ip-range=10.0.0.0/24 --cert-dir="$dir" --token-auth-file="$dir/tokens.csv" \
        --authorization-mode=Node,RBAC --service-account-issuer="https://$1.kube.example.org" \
        --service-account-signing-key-file="$dir/tokens.key" \
        --service-account-key-file="$dir/tokens.key" --allow-privileged=true --profiling=false \
        --audit-policy-file="$dir/audit.yaml" --audit-log-path="$dir/audit.log" \
        >>"$dir/apiserver.log" 2>&1 &
    kube_pid[$1]=$!
    until_true 60 kube "$1" GET /readyz >/dev/null || {
        tail -20 "$dir/apiserver.log" >&2
        fail "the API server of $1 is not ready after 60 s"
    }
}

stop_kube() {
    kill -KILL "${kube_pid[$1]}"
    wait "${kube_pid[$1]}" 2>/dev/null || true
}

# write_kubeconfig NAME TOKEN: how to reach the cluster as the owner of TOKEN.
write_kubeconfig() {
    cat <<YAML
apiVersion: v1
kind: Config
current-context: $1
contexts: [{name: $1, context: {cluster: $1, user: $1}}]
clusters: [{name: $1, cluster: {server: "${kube_url[$1]}", certificate-authority: "${kube_dir[$1]}/apiserver.crt"}}]
users: [{name: $1, user: {token: "$2"}}]
YAML
}

# kube NAME METHOD PATH [BODY [TYPE]]: a request of the administrator's, answered with JSON.
kube() {
    local body=()
    (($# < 4)) || body=(--data-binary "$4" -H "Content-Type: ${5:-application/json}")
    curl --silent --show-error --fail-with-body --max-time 10 --cacert "${kube_dir[$1]}/apiserver.crt" \
        -H "Authorization: Bearer $(<"${kube_dir[$1]}/admin.token")" \
        -X "$2" "${body[@]}" "${kube_url[$1]}$3"
}

# kube_apply NAME FILE: creates every object of a YAML file.
kube_apply() {
    local object path
    while IFS= read -r -d '' object; do
        grep -q '^kind:' <<<"$object" || continue
        path=$(kube_path "$object")
        kube "$1" POST "$path" "$object" application/yaml >"$world/apply.out" ||
            fail "$path: $(<"$world/apply.out")"
    done < <(sed 's/^---$/\x00/' "$2"; printf '\0')
}

# The collection that a YAML object belongs to.
kube_path() {
    local version kind namespace group
    version=$(sed -n 's/^apiVersion: //p' <<<"$1")
    kind=$(sed -n 's/^kind: //p' <<<"$1")
    namespace=$(sed -n 's/^  namespace: //p' <<<"$1" | head -1)
    group=/apis/$version
    [[ $version == */* ]] || group=/api/$version
    kind=${kind,,}s
    [[ $kind == *ys ]] && kind=${kind%ys}ies
    echo "$group${namespace:+/namespaces/$namespace}/$kind"
}

# kube_node NAME NODE [LABELS]: registers a node.
kube_node() {
    kube "$1" POST /api/v1/nodes "{\"metadata\": {\"name\": \"$2\", \"labels\": ${3:-{\}}}}" >"$world/node.out"
}

# kube_pod NAME NAMESPACE POD ACCOUNT NODE [LABELS]: puts a pod on a node and says that it runs.
kube_pod() {
    local pods=/api/v1/namespaces/$2/pods
    kube "$1" POST "$pods" "{\"metadata\": {\"name\": \"$3\", \"labels\": ${6:-{\}}}, \"spec\": {
        \"serviceAccountName\": \"$4\", \"nodeName\": \"$5\", \"automountServiceAccountToken\": false,
        \"containers\": [{\"name\": \"agent\", \"image\": \"agent\"}]}}" >"$world/pod.out"
    kube "$1" PATCH "$pods/$3/status" '{"status": {"phase": "Running", "hostIP": "192.0.2.7",
        "hostIPs": [{"ip": "192.0.2.7"}]}}' application/merge-patch+json >"$world/pod.out"
}

# kube_token NAME NAMESPACE ACCOUNT AUDIENCE [POD]: a token for AUDIENCE that ends in ten minutes, or
# with the pod.
kube_token() {
    local bound='' uid
    if (($# == 5)); then
        uid=$(kube "$1" GET "/api/v1/namespaces/$2/pods/$5" | kube_uid)
        bound=", \"boundObjectRef\": {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"name\": \"$5\", \"uid\": \"$uid\"}"
    fi
    kube "$1" POST "/api/v1/namespaces/$2/serviceaccounts/$3/token" \
        "{\"spec\": {\"audiences\": [\"$4\"], \"expirationSeconds\": 600$bound}}" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["status"]["token"])'
}

# The uid of the object on standard input.
kube_uid() { python3 -c 'import json, sys; print(json.load(sys.stdin)["metadata"]["uid"])'; }
