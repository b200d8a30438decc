"""psk-impostor.py CERTIFICATE KEY: what stands between a client and its server. It has a certificate, ignores
the client's one-time key, and says for each connection what it heard, or that it was turned away."""

import socket
import ssl
import sys


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(*sys.argv[1:])
    listener = socket.create_server(("127.0.0.1", 0))
    say("listening on {}:{}".format(*listener.getsockname()))
    while True:
        plain, _ = listener.accept()
        plain.settimeout(5)
        try:
            with context.wrap_socket(plain, server_side=True) as tls:
                say(f"heard {tls.recv(1024)}")
        except OSError as error:
            say(f"turned away: {error}")


def say(text):
    print(text, flush=True)


main()
