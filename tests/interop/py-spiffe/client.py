"""What py-spiffe, an independent client, sees of the Workload API over the life of its identities."""

import os
import queue
import subprocess
import sys
import time

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from spiffe import WorkloadApiClient, X509Source
from spiffe.workloadapi.errors import FetchX509SvidError

DOMAIN = os.environ["TRUST_DOMAIN"]
SOCKET = os.environ["SPIFFE_ENDPOINT_SOCKET"]
SHORT_TTL = 10
HEADER = ("workload.spiffe.io", "true")


def ok(text):
    print(f"  ok    {text}", flush=True)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def claviger(*arguments, stdin=None):
    command = [os.environ["CLAVIGER"], *arguments]
    done = subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE, text=True)
    return done.stdout


def create_entry(name, *more):
    """Entitles this process, by user and by the interpreter that it runs."""
    claviger(
        "entry", "create", "--entry-id", name, "--spiffe-id", f"spiffe://{DOMAIN}/{name}",
        "--selector", f"unix:uid:{os.getuid()}",
        "--selector", f"unix:path:{os.path.realpath(sys.executable)}", *more,
    )  # fmt: skip


def call(method, *metadata):
    """The status that a raw call of `method` with an empty request ends with."""
    with grpc.insecure_channel(SOCKET) as channel:
        stream = channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")(
            b"", metadata=metadata, timeout=10
        )
        try:
            next(stream)
        except grpc.RpcError as error:
            return error.code()
        finally:
            stream.cancel()
        return grpc.StatusCode.OK


def strangers_are_refused():
    code = call("FetchX509SVID", HEADER)
    check(code == grpc.StatusCode.PERMISSION_DENIED, f"without an identity: {code}")
    code = call("FetchX509Bundles", HEADER)
    check(code == grpc.StatusCode.PERMISSION_DENIED, f"bundles without an identity: {code}")
    with WorkloadApiClient(SOCKET) as client:
        try:
            client.fetch_x509_svid(timeout=10)
        except FetchX509SvidError as error:
            check("PERMISSION_DENIED" in str(error), str(error))
        else:
            raise AssertionError("py-spiffe got an SVID without an entry")
    ok("no identity: PERMISSION_DENIED")


def the_header_is_required():
    for name, metadata in {
        "missing": (),
        "True": ((HEADER[0], "True"),),
        "empty": ((HEADER[0], ""),),
        "twice": (HEADER, HEADER),
        "twice, once wrong": (HEADER, (HEADER[0], "false")),
    }.items():
        code = call("FetchX509SVID", *metadata)
        check(code == grpc.StatusCode.INVALID_ARGUMENT, f"header {name}: {code}")
    ok("security header missing, misspelt, empty or twice: INVALID_ARGUMENT")
    code = call("FetchEverything", HEADER)
    check(code == grpc.StatusCode.UNIMPLEMENTED, f"unknown method: {code}")
    ok("unknown method: UNIMPLEMENTED")


def is_sound(context, name):
    """Checks what the client library leaves to its user: signature, key, time and profile."""
    svid = context.default_svid
    check(str(svid.spiffe_id) == f"spiffe://{DOMAIN}/{name}", str(svid.spiffe_id))
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    issued_by = [ca for ca in bundle.x509_authorities if ca.subject == svid.cert_chain[-1].issuer]
    for ca in issued_by:
        try:
            svid.cert_chain[-1].verify_directly_issued_by(ca)
            break
        except Exception:
            continue
    else:
        raise AssertionError("no authority of the bundle signed the SVID")
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    check(
        svid.private_key.public_key().public_bytes(*spki)
        == svid.leaf.public_key().public_bytes(*spki),
        "the private key is another certificate's",
    )
    check(isinstance(svid.private_key, ec.EllipticCurvePrivateKey), "not an EC key")
    check(svid.leaf.not_valid_after_utc.timestamp() > time.time(), "expired")
    return svid


def it_fetches():
    create_entry("first", "--wait", "--x509-svid-ttl", str(SHORT_TTL))
    with WorkloadApiClient(SOCKET) as client:
        context = client.fetch_x509_context(timeout=10)
        svid = is_sound(context, "first")
        check(len(context.x509_svids) == 1, "more than one identity")
        life = svid.leaf.not_valid_after_utc.timestamp() - time.time()
        check(0 < life <= SHORT_TTL + 1, f"{life:.0f} s are left of {SHORT_TTL}")
        bundles = client.fetch_x509_bundles(timeout=10)
        check(len(bundles.bundles) == 1, "FetchX509Bundles gives one bundle")
    ok("FetchX509SVID and FetchX509Bundles: chain, key and lifetime hold")


def the_source_rotates():
    updates = queue.Queue()
    with X509Source(socket_path=SOCKET, timeout_in_seconds=10) as source:
        source.subscribe_for_updates(lambda: updates.put(time.monotonic()))
        before = is_sound(source.get_x509_context(), "first")
        at = []
        while len(at) < 3:
            at.append(updates.get(timeout=SHORT_TTL))
            after = is_sound(source.get_x509_context(), "first")
            check(after.leaf.serial_number != before.leaf.serial_number, "the same certificate")
            before = after
        pace = (at[2] - at[0]) / 2
        check(pace > SHORT_TTL / 5, f"a {SHORT_TTL} s SVID is replaced every {pace:.1f} s")
    ok(f"X509Source follows the rotation: a {SHORT_TTL} s SVID is replaced after {pace:.1f} s")


def entries_arrive_on_the_open_stream():
    updates = queue.Queue()
    with WorkloadApiClient(SOCKET) as client:
        stream = client.stream_x509_contexts(
            lambda context: updates.put((time.monotonic(), context)),
            lambda error: updates.put((time.monotonic(), error)),
            retry_connect=False,
        )

        def names_become(*expected):
            end = time.monotonic() + 5
            while True:
                at, update = updates.get(timeout=max(0.01, end - time.monotonic()))
                check(not isinstance(update, Exception), f"the stream ended: {update}")
                names = [str(svid.spiffe_id).rsplit("/", 1)[1] for svid in update.x509_svids]
                if sorted(names) == sorted(expected):
                    return at

        names_become("first")
        begin = time.monotonic()
        create_entry("second")
        took = names_become("first", "second") - begin
        ok(f"a new entry reaches the open stream, {took * 1000:.0f} ms after the command began")
        claviger("entry", "delete", "--entry-id", "second")
        names_become("first")
        ok("a deleted entry's identity leaves the open stream")
        claviger("entry", "delete", "--entry-id", "first")
        end = time.monotonic() + 5
        while not isinstance(update := updates.get(timeout=end - time.monotonic())[1], Exception):
            pass
        check("PERMISSION_DENIED" in str(update), str(update))
        ok("the last identity gone: the stream ends with PERMISSION_DENIED")
        stream.cancel()


if __name__ == "__main__":
    strangers_are_refused()
    the_header_is_required()
    it_fetches()
    the_source_rotates()
    entries_arrive_on_the_open_stream()
