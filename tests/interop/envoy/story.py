"""Client -> Envoy `downstream` -> mTLS -> Envoy `upstream` -> echo, while all SVIDs are replaced."""

import os
import socket
import ssl
import time

from envoys import DOMAIN, WORLD, Envoy
from load import Load, post_once, serve_echo

ROTATIONS = 20
CLIENTS = 4
# An SVID of 5 s is replaced after 2.5 s: twenty take 50 s.
PATIENCE = 150


def ok(text):
    print(f"  ok    {text}", flush=True)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def svids_are_replaced_under_load(upstream, downstream):
    load = Load(downstream.ports["good"], CLIENTS, f"spiffe://{DOMAIN}/downstream")
    begin = time.monotonic()
    serials = {envoy: set() for envoy in (upstream, downstream)}
    try:
        while not all(len(seen) > ROTATIONS for seen in serials.values()):
            check(time.monotonic() - begin < PATIENCE, f"{PATIENCE} s were not enough")
            check(not load.failures, load.failures[:5])
            for envoy, seen in serials.items():
                seen |= envoy.svid_serials()
            time.sleep(0.5)
    finally:
        load.stop()
    took = time.monotonic() - begin
    check(not load.failures, load.failures[:5])
    check(load.requests > 20 * took, f"{load.requests} requests in {took:.0f} s are no load")
    seen = " and ".join(f"{len(seen) - 1} of {envoy.name}" for envoy, seen in serials.items())
    ok(f"{load.requests} requests in {took:.0f} s through {seen}'s rotations: none failed")
    check(len(load.certificates) > ROTATIONS, f"{len(load.certificates)} certificates were used")
    ok(f"each SVID was used: upstream saw {len(load.certificates)} certificates of downstream")


def it_was_full_tls13(upstream, downstream):
    for envoy, where in ((upstream, r"^listener\..*\.ssl\."), (downstream, r"^cluster\.good\.ssl\.")):
        handshakes = envoy.stat(where + "handshake$")
        check(handshakes > ROTATIONS, f"{envoy.name}: {handshakes} handshakes")
        modern = envoy.stat(where + r"versions\.TLSv1\.3$")
        check(modern == handshakes, f"{envoy.name}: {modern} of {handshakes} are TLS 1.3")
        resumed = envoy.stat(where + "session_reused$")
        check(resumed == 0, f"{envoy.name}: {resumed} sessions were resumed")
        failed = envoy.stat(where + "fail_verify|" + where + "connection_error$")
        check(failed == 0, f"{envoy.name}: {failed} handshakes failed")
        rejected = envoy.stat(r"sds\..*update_rejected$")
        check(rejected == 0, f"{envoy.name} rejected {rejected} secrets")
        updates = envoy.stat(r"sds\..*update_success$")
        check(updates > ROTATIONS, f"{envoy.name} accepted {updates} secrets")
        ok(f"{envoy.name}: {handshakes} full TLS 1.3 handshakes, {updates} secrets accepted")


def strangers_are_refused(upstream):
    """Has an SVID of the trust domain, but not the name that upstream expects."""
    stranger = Envoy("stranger", "downstream.yaml", upstream_port=upstream.ports["mtls"])
    try:
        status, answer = post_once(stranger.ports["good"])
        check(status == 503, f"a stranger got {status} {answer}")
        check(upstream.stat(r"^listener\..*fail_verify_san$") == 1, "not for its name")
    finally:
        stranger.stop()
    ok("another SPIFFE ID of the trust domain is refused by upstream: fail_verify_san")


def a_wrong_server_is_refused(downstream):
    status, answer = post_once(downstream.ports["astray"])
    check(status == 503, f"the wrong server answered {status} {answer}")
    check(downstream.stat(r"^cluster\.astray\.ssl\.fail_verify_san$") == 1, "not for its name")
    ok("an upstream with another SPIFFE ID than expected is refused by downstream: fail_verify_san")


def dial(port, certificate=None):
    """What a plain TLS client is told: the alert, or what it read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(f"{certificate}.pem", f"{certificate}.key")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            # The server's judgement comes with the first read of a TLS 1.3 client.
            with context.wrap_socket(plain) as tls:
                tls.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
                return tls.recv(1000)
        except (ssl.SSLError, ConnectionResetError) as error:
            return error


def impostors_are_refused(upstream):
    told = dial(upstream.ports["mtls"])
    check(isinstance(told, ssl.SSLError), f"without a certificate: {told!r}")
    check(upstream.stat(r"^listener\..*fail_verify_no_cert$") == 1, f"not for that: {told!r}")
    ok(f"no certificate is refused: {told}")
    told = dial(upstream.ports["mtls"], os.path.join(WORLD, "impostor"))
    check(isinstance(told, ssl.SSLError), f"with a certificate of nobody's: {told!r}")
    check(upstream.stat(r"^listener\..*fail_verify_error$") == 1, f"not for that: {told!r}")
    ok(f"the right SPIFFE ID in a certificate of nobody's is refused: {told}")


def main():
    envoys = []
    try:
        upstream = Envoy("upstream", "upstream.yaml", echo_port=serve_echo())
        envoys.append(upstream)
        downstream = Envoy("downstream", "downstream.yaml", upstream_port=upstream.ports["mtls"])
        envoys.append(downstream)
        ok("both Envoys have their secrets")
        svids_are_replaced_under_load(upstream, downstream)
        it_was_full_tls13(upstream, downstream)
        strangers_are_refused(upstream)
        a_wrong_server_is_refused(downstream)
        impostors_are_refused(upstream)
    except Exception:
        for envoy in envoys:
            print(f"  {envoy.name}: {envoy.log.read_text()[-3000:]}")
        raise
    finally:
        for envoy in envoys:
            envoy.stop()


main()
