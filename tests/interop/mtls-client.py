"""Asks a TLS server again and again, each time over a connection of its own, and checks by its SVID
who answers; until the server was seen with enough SVIDs. One request that fails ends it."""

import argparse
import pathlib
import shutil
import socket
import ssl
import sys
import tempfile
import time

PATIENCE = 120  # seconds for all of it


def context(files, own):
    """What `claviger svid watch` wrote last. Python opens the file twice, for chain and key, which
    may be replaced between; so it gets a copy."""
    shutil.copyfile(f"{files}.combined.pem", own)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False  # the SPIFFE ID is checked instead
    tls.load_verify_locations(f"{files}.bundle.pem")
    tls.load_cert_chain(own)
    return tls


def request(address, tls, server):
    """One request; returns the serial number of the server's SVID."""
    with socket.create_connection(address, timeout=5) as tcp, tls.wrap_socket(tcp) as stream:
        certificate = stream.getpeercert()
        names = [value for kind, value in certificate["subjectAltName"] if kind == "URI"]
        assert names == [server], f"the server is {names}"
        stream.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := stream.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return certificate["serialNumber"]


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--address", required=True)
    flags.add_argument("--files", required=True)
    flags.add_argument("--server", required=True)
    flags.add_argument("--rotations", type=int, required=True)
    given = flags.parse_args()
    host, port = given.address.rsplit(":", 1)

    requests, seen, end = 0, set(), time.monotonic() + PATIENCE
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder, "own.pem")
        own.touch(0o600)
        while len(seen) <= given.rotations:
            if time.monotonic() > end:
                sys.exit(f"after {requests} requests the server had {len(seen)} SVIDs only")
            try:
                seen.add(request((host, int(port)), context(given.files, own), given.server))
            except (OSError, AssertionError) as error:
                sys.exit(f"request {requests + 1}, SVID {len(seen)}: {error!r}")
            requests += 1
    print(f"{requests} requests through {given.rotations} rotations, none failed, all by {given.server}")


main()
