"""mTLS by `spiffe-tls` between two Python processes with identities of their own: one end of it.

peers.py listen CLIENT           prints its port, and answers to CLIENT and nobody else
peers.py dial PORT SERVER        dials SERVER, says hello, prints the answer, its serial number and the
                                 other one's
"""

import os
import sys

from OpenSSL import SSL
from spiffe import SpiffeId, X509Source
from spiffetls import ListenOptions, ServerTlsMode, dial, listen
from spiffetls.errors import TLSConnectionError
from spiffetls.tlsconfig.authorize import authorize_id

SOCKET = os.environ["SPIFFE_ENDPOINT_SOCKET"]


def serve(source, client):
    options = ListenOptions(
        tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(client))
    )
    listener = listen("127.0.0.1:0", source, options)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        try:
            connection.do_handshake()
            leaf = connection.get_peer_certificate().to_cryptography()
            hello = connection.recv(100).decode()
            version = connection.get_protocol_version_name()
            connection.sendall(f"{hello} {leaf.serial_number:x} {version}".encode())
            connection.shutdown()
        except SSL.Error as error:
            print(f"refused {error!r}", file=sys.stderr, flush=True)
        finally:
            connection.close()


def call(source, port, server):
    try:
        connection = dial(
            f"127.0.0.1:{port}", source, authorize_fn=authorize_id(SpiffeId(server))
        )
        connection.sendall(b"hello")
        # With TLS 1.3 a client learns here that the server does not want it.
        answer = connection.recv(100).decode()
    except (TLSConnectionError, SSL.Error) as error:
        print(f"refused {error}", file=sys.stderr)
        sys.exit(3)
    leaf = connection.get_peer_certificate().to_cryptography()
    print(f"{answer} {source.svid.leaf.serial_number:x} {leaf.serial_number:x}")


with X509Source(socket_path=SOCKET, timeout_in_seconds=10) as own:
    if sys.argv[1] == "listen":
        serve(own, sys.argv[2])
    else:
        call(own, *sys.argv[2:])
