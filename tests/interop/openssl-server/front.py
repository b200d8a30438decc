"""front.py CLAVIGER: stands where an acceptor's PSK callback would: reads the identity out of each
ClientHello, redeems it with the command line tool, and lets `openssl s_server` do the handshake."""

import json
import socket
import struct
import subprocess
import sys
import threading

CLAVIGER = sys.argv[1]
PRE_SHARED_KEY = 41  # the extension's number, RFC 9846 §4.2


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    say("listening on {}:{}".format(*listener.getsockname()))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def serve(client):
    """One connection: ClientHello, redeem, s_server for this key alone, then bytes both ways."""
    with client:
        hello = read_record(client)
        identity = psk_identity(hello[5:])
        say(f"identity {identity}")
        port = free_port()
        server = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-nocert",
             "-tls1_3", "-psk_identity", identity, "-psk", redeem(identity), "-rev",
             # It picks the suite before it looks at the key, which is for SHA-256.
             "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr,
        )  # fmt: skip
        while not server.stdout.readline().startswith(b"ACCEPT"):
            pass
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            upstream.sendall(hello)
            threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
            pump(upstream, client)
        server.kill()
        server.wait()


def redeem(identity):
    """The key, in hexadecimal. To redeem by identity alone takes a policy that permits it."""
    command = [CLAVIGER, "psk", "redeem", "--output", "json", "--identity", identity]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["key"]


def read_record(connection):
    header = read(connection, 5)
    return header + read(connection, struct.unpack(">H", header[3:])[0])


def read(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError("the client closed the connection")
        data += more
    return data


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
            return hello[at + 8 : at + 8 + size].decode("ascii")
        at += 4 + length
    raise ValueError("no pre_shared_key in the ClientHello")


def pump(source, sink):
    try:
        while data := source.recv(16384):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def say(text):
    print(text, flush=True)


main()
