#!/usr/bin/env python3
"""server.py PURPOSE PORT

How does a program in Python (3.13 or newer) accept connections authenticated by one-time keys? Prints who
calls, and answers the first line of each caller by a greeting."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading

IDENTITY = re.compile(r"p1\.[A-Za-z0-9_-]{22}")


def redeem(identity):
    """Spends the key with this name: the key, who calls, and what for; None if there is none."""
    # A stranger sent it.
    if identity is None or not IDENTITY.fullmatch(identity):
        return None
    command = ["claviger", "psk", "redeem", "--output", "json", "--identity", identity]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout) if done.returncode == 0 else None


class Caller:
    """Whoever is at the other end of one connection."""

    def __init__(self, purpose):
        self.purpose, self.psk = purpose, None

    def key(self, identity):
        # OpenSSL asks again if it made the client retry its ClientHello; the key is spent by then.
        if self.psk is None or self.psk["identity"] != identity:
            self.psk = redeem(identity)
        if self.psk is None or self.psk["purpose"] != self.purpose:
            return b""  # No key: the handshake fails, because there is no certificate either.
        return bytes.fromhex(self.psk["key"])

    def shake_hands(self, plain):
        # A context for each connection: the callback is not told which one it is asked for.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # A ticket would open a second connection.
        # No certificate is loaded: with one, a client without a key would be let in.
        context.set_psk_server_callback(self.key)
        tls = context.wrap_socket(plain, server_side=True)
        if not tls.session_reused:
            raise ssl.SSLError("the client did not use a key")
        return tls


def serve(plain, purpose):
    caller = Caller(purpose)
    try:
        plain.settimeout(10)
        with caller.shake_hands(plain) as tls:
            client = caller.psk["client_id"]
            print(f"{client} for {purpose}", flush=True)
            if tls.recv(1024):
                tls.sendall(f"hello {client}\n".encode())
            tls.unwrap()
    except OSError as error:
        print(f"refused: {error}", file=sys.stderr)
    finally:
        plain.close()


def main():
    purpose, port = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", int(port)))
    print("listening", flush=True)
    slots = threading.BoundedSemaphore(64)
    while True:
        plain, _ = listener.accept()
        slots.acquire()

        def work(plain=plain):
            serve(plain, purpose)
            slots.release()

        threading.Thread(target=work, daemon=True).start()


main()
