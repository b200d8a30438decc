#!/usr/bin/env bash
# client.sh PEER PURPOSE HOST:PORT
#
# How does stunnel open a connection that a one-time key authenticates? Joins it to standard input and output,
# as ssh's ProxyCommand wants it, or socat's EXEC. stunnel reads its keys when it starts, so there is one for
# each connection.
set -euo pipefail
peer=$1 purpose=$2 address=$3

scratch=$(mktemp -d "${XDG_RUNTIME_DIR:-/dev/shm}/stunnel.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
umask 077

claviger psk issue --peer "$peer" --purpose "$purpose" |
    awk '/^identity/ { identity = $2 } /^key/ { print identity ":" $2 }' >"$scratch/keys"

# A certificate whose key was thrown away: nobody can show it.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=nobody \
    -keyout /dev/null -out "$scratch/nobody.pem" 2>"$scratch/openssl.err"

# Without `verifyPeer`, stunnel believes a server that ignores the key and shows any certificate.
cat >"$scratch/stunnel.conf" <<CONF
client = yes
foreground = yes
syslog = no
debug = warning
sslVersion = TLSv1.3
PSKsecrets = $scratch/keys
verifyPeer = yes
CAfile = $scratch/nobody.pem
connect = $address
CONF
stunnel "$scratch/stunnel.conf"
