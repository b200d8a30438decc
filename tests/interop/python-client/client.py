"""client.py PORT IDENTITY KEY: standard input to the server, and what it answers to standard output."""

import socket
import ssl
import sys

port, identity, key = sys.argv[1:]

# The safe way to use a PSK alone: certificates are required and none is trusted, so a server that
# ignores the key and shows a certificate is refused. With CERT_NONE it would be believed.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.set_psk_client_callback(lambda hint: (identity, bytes.fromhex(key)))

with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as plain:
    try:
        with context.wrap_socket(plain) as tls:
            tls.sendall(sys.stdin.readline().encode())
            while data := tls.recv(4096):
                sys.stdout.write(data.decode())
                sys.stdout.flush()
    except ssl.SSLError as error:
        sys.exit(f"refused: {error.reason}")
