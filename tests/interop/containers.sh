# Containers, and what an agent says of them; for the scripts of Docker and Podman.
#
# Sourced after world.sh. A script sets `engine` to the command that speaks with its engine (an array)
# and starts the engine.
# shellcheck shell=bash disable=SC2034,SC2154

((EUID == 0)) || skip "containers are started as root"
source "$interop/agent.sh"

engine=()
id=''
# What the program in a container needs of this machine, as there is no registry to fetch an image from.
from_host=(-v /usr:/usr:ro -v /lib:/lib:ro)
for directory in /lib64 /bin; do
    [[ ! -e $directory ]] || from_host+=(-v "$directory:$directory:ro")
done

# An image with directories to mount at, and nothing else.
make_image() {
    mkdir -p "$world/image"/{usr,lib,lib64,bin,run/claviger,tmp}
    tar -C "$world/image" -cf "$world/image.tar" .
    "${engine[@]}" import "$world/image.tar" localhost/billing:1 >"$world/import.out" 2>&1 ||
        fail "import: $(<"$world/import.out")"
}

# run_container NAME OPTION… -- COMMAND…: starts a container that can ask the agent.
run_container() {
    local name=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    "${engine[@]}" run --detach --name "$name" --network none "${from_host[@]}" \
        -v "$claviger_path:/run/claviger/claviger:ro" -v "$world/run:/run/claviger/agent:ro" \
        -e SPIFFE_ENDPOINT_SOCKET=unix:///run/claviger/agent/agent.sock \
        "${options[@]}" localhost/billing:1 "$@" >"$world/$name.run" 2>&1 ||
        fail "run $name: $(<"$world/$name.run")"
}

# in_container NAME COMMAND…: the claviger in the container does as it is told.
in_container() { "${engine[@]}" exec "$1" /run/claviger/claviger "${@:2}"; }

main_process() { "${engine[@]}" inspect --format '{{.State.Pid}}' "$1"; }

expect_identity() {
    in_container "$1" svid fetch --output json 2>"$world/fetch.err" | grep "\"$2\"" >/dev/null ||
        fail "$1 does not get $2: $(<"$world/fetch.err")$(tail -3 "$agent_log")"
}

expect_nobody() {
    ! in_container "$1" svid fetch --output json >"$world/fetch.out" 2>"$world/fetch.err" ||
        fail "$1 gets $(<"$world/fetch.out")"
    grep -q 'no identity' "$world/fetch.err" || fail "$1 is answered $(<"$world/fetch.err")"
}

# expect_impostor_is_nobody NAME PATTERN: a process of this machine is in a control group that is named,
# by the pattern, for the container.
expect_impostor_is_nobody() {
    local root group impostor
    for root in /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [[ ! -w $root/cgroup.procs ]] || break
    done
    group=$root/claviger-interop-$$.service/${2/\{id\}/$("${engine[@]}" inspect --format '{{.Id}}' "$1")}
    mkdir -p "$group"
    sleep 600 &
    impostor=$!
    background+=("$impostor")
    echo "$impostor" >"$group/cgroup.procs"
    [[ -z $(selectors_of "$impostor") ]] || fail "an impostor shows $(selectors_of "$impostor")"
    grep -q 'which is elsewhere' "$agent_log" || fail "the agent does not say why: $(<"$agent_log")"
    kill "$impostor"
    wait "$impostor" || true
    until_true 5 rmdir "$group" && rmdir "${group%/*}" || fail "cannot remove $group"
}

# billing_story DIGEST IMAGE PATTERN: the story that both engines tell, with the image's digest and
# name, and the pattern of the names of control groups.
billing_story() {
    run_container billing --label app=billing --label 'tier=' -e TIER=gold -e PASSWORD=hush -- sleep 600
    run_container other --label app=other -- sleep 600
    claviger entry create --wait --spiffe-id "spiffe://$trust_domain/billing" \
        --selector docker:label:app:billing --selector docker:env:TIER=gold >"$world/entry.out"
    expect_identity billing "spiffe://$trust_domain/billing"
    ok "a container's process gets the identity of its label and its environment"
    expect_nobody other
    ok "another container's does not"

    local want
    want=$(printf '%s\n' docker:env:TIER=gold "docker:image_config_digest:$1" \
        "docker:image_id:$2" docker:label:app:billing docker:label:tier: | sort)
    [[ $(selectors_of "$(main_process billing)") == "$want" ]] ||
        fail "selectors: $(selectors_of "$(main_process billing)"); expected $want"
    ! grep -q hush "$agent_log" || fail "the agent's log tells a secret"
    ok "the selectors are the label, the listed variable, the image by name and by digest"

    expect_impostor_is_nobody billing "$3"
    ok "a process in a control group of the container's name elsewhere has none of them"
    "${engine[@]}" rm --force other billing >"$world/rm.out" 2>&1
}
