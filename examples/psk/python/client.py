#!/usr/bin/env python3
"""client.py PEER PURPOSE HOST PORT

How does a program in Python (3.13 or newer) open a connection that a one-time key authenticates? Sends the
first line of its standard input, and prints the first answer."""

import json
import socket
import ssl
import subprocess
import sys


def issue(peer, purpose):
    """A key for one connection to `peer`."""
    command = ["claviger", "psk", "issue", "--output", "json", "--peer", peer, "--purpose", purpose]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer["identity"], bytes.fromhex(answer["key"])


def connect(psk, host, port):
    """The connection; nobody but the peer can be at its other end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    # A server that ignores the key and shows a certificate is refused, whoever signed it: a certificate is
    # required, and nobody is trusted. With CERT_NONE, as examples of PSKs have it, it would be believed.
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_psk_client_callback(lambda hint: psk)
    plain = socket.create_connection((host, port), timeout=10)
    tls = context.wrap_socket(plain)
    # What authenticated the server is the key.
    if not tls.session_reused:
        raise ssl.SSLError("the server did not use the key")
    return tls


def main():
    peer, purpose, host, port = sys.argv[1:]
    psk = issue(peer, purpose)
    try:
        with connect(psk, host, int(port)) as tls:
            tls.sendall(sys.stdin.readline().encode())
            sys.stdout.write(tls.recv(4096).decode())
    except ssl.SSLError as error:
        sys.exit(f"refused: {error.reason or error}")


main()
