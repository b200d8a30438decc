#!/usr/bin/env python3
"""server.py PURPOSE PORT BACKEND

How does stunnel accept connections authenticated by one-time keys? It reads its keys when it starts, so one
is started for each connection, with the one key that the connection needs: which that is, is read from the
ClientHello, which stays in the socket for stunnel to read again. BACKEND is what `connect` takes: HOST:PORT or
the path of a Unix socket. Prints who calls."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

IDENTITY = re.compile(rb"p1\.[A-Za-z0-9_-]{22}")
PRE_SHARED_KEY = 41  # the extension's number, RFC 9846 §4.2

# No certificate: with one, a client without a key would be let in. No session is resumed: a key opens one
# connection.
CONFIGURATION = """
foreground = quiet
syslog = no
debug = warning
sslVersion = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256
sessionResume = no
PSKsecrets = /proc/self/fd/{keys}
connect = {backend}
"""


def peek_hello(plain):
    """The ClientHello, without taking it out of the socket; at most 16 KiB, within five seconds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        data = plain.recv(5 + 16384, socket.MSG_PEEK)
        if not data:
            raise ValueError("the caller hung up")
        if len(data) >= 5 and len(data) >= 5 + struct.unpack_from(">H", data, 3)[0]:
            return data[5:]
        time.sleep(0.01)  # A socket that has been peeked at does not tell when there is more.
    raise ValueError("the caller sent no ClientHello in time")


def psk_identity(hello):
    """The first identity in a ClientHello (RFC 9846 §4.1.2, §4.2.11)."""
    at = 4 + 2 + 32
    at += 1 + hello[at]  # session id
    at += 2 + struct.unpack_from(">H", hello, at)[0]  # cipher suites
    at += 1 + hello[at]  # compression
    at += 2
    while at < len(hello):
        kind, length = struct.unpack_from(">HH", hello, at)
        if kind == PRE_SHARED_KEY:
            (size,) = struct.unpack_from(">H", hello, at + 6)
            return hello[at + 8 : at + 8 + size]
        at += 4 + length
    raise ValueError("the caller offers no key")


def redeem(identity):
    """Spends the key with this name."""
    if not IDENTITY.fullmatch(identity):
        raise ValueError("the caller offers some other key")
    command = ["claviger", "psk", "redeem", "--output", "json", "--identity", identity.decode()]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def file_in_memory(text):
    """A file that is on no disk, for a child to read."""
    file = os.memfd_create("stunnel")
    os.fchmod(file, 0o600)
    os.write(file, text.encode())
    os.lseek(file, 0, os.SEEK_SET)
    return file


def serve(plain, purpose, backend):
    with plain:
        plain.settimeout(5)
        psk = redeem(psk_identity(peek_hello(plain)))
        if psk["purpose"] != purpose:
            raise ValueError(f"called for {psk['purpose']}")
        print(f"{psk['client_id']} for {purpose}", flush=True)
        plain.settimeout(None)
        keys = file_in_memory(f"{psk['identity']}:{psk['key']}\n")
        configuration = file_in_memory(CONFIGURATION.format(keys=keys, backend=backend))
        try:
            # What is accepted comes on standard input, as from inetd.
            stunnel = ["stunnel", "-fd", str(configuration)]
            subprocess.run(stunnel, stdin=plain, stdout=plain, pass_fds=(keys, configuration))
        finally:
            os.close(keys)
            os.close(configuration)


def main():
    purpose, port, backend = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", int(port)))
    print("listening", flush=True)
    slots = threading.BoundedSemaphore(64)
    while True:
        plain, _ = listener.accept()
        slots.acquire()

        def work(plain=plain):
            try:
                serve(plain, purpose, backend)
            except (OSError, ValueError, IndexError, struct.error, subprocess.CalledProcessError) as error:
                print(f"refused: {error}", file=sys.stderr)
            finally:
                slots.release()

        threading.Thread(target=work, daemon=True).start()


main()
