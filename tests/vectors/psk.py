#!/usr/bin/env python3
"""Computes psk.json from docs/protocol.md with Python's own primitives, independently of core/.

AES comes from `openssl enc`, so that nothing needs to be installed.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct
import subprocess


def extract(salt, secret):
    return hmac.new(salt, secret, hashlib.sha256).digest()


def expand(prk, info, length=32):
    out, block, count = b"", b"", 0
    while len(out) < length:
        count += 1
        block = hmac.new(prk, block + info + bytes([count]), hashlib.sha256).digest()
        out += block
    return out[:length]


def lp(part):
    return struct.pack(">H", len(part)) + part


def label(prk, name, context):
    name = b"tls13 " + name
    return expand(prk, struct.pack(">HB", 32, len(name)) + name + bytes([len(context)]) + context)


def aes(key, block):
    command = ["openssl", "enc", "-aes-256-ecb", "-nopad", "-K", key.hex()]
    return subprocess.run(command, input=block, capture_output=True, check=True).stdout


root = bytes([7]) * 32
not_after = 1_800_000_000
block = struct.pack(">I", not_after // 60) + bytes([9]) * 12
identity = aes(expand(extract(b"claviger psk identity v1", root), b""), block)
base = expand(extract(b"claviger psk base v1", root), identity)
psk = expand(
    base,
    lp(b"claviger tls13-psk v1")
    + lp(b"example.org")
    + lp(b"spiffe://example.org/a")
    + lp(b"spiffe://example.org/b")
    + lp(b"test")
    + struct.pack(">QB", not_after, 1),
)
# The same for one run of its client.
psk_run = expand(
    base,
    lp(b"claviger tls13-psk run v1")
    + lp(b"example.org")
    + lp(b"spiffe://example.org/a")
    + lp(b"spiffe://example.org/b")
    + lp(b"test")
    + struct.pack(">QB", not_after, 1)
    + lp(b"github:8412:1"),
)
# The same for one epoch of a series, and for both.
parties = lp(b"example.org") + lp(b"spiffe://example.org/a") + lp(b"spiffe://example.org/b") + lp(b"test")
third_epoch = lp(b"train/run-7") + struct.pack(">Q", 3)
psk_series = expand(
    base, lp(b"claviger tls13-psk series v1") + parties + struct.pack(">QB", not_after, 1) + third_epoch
)
psk_run_series = expand(
    base,
    lp(b"claviger tls13-psk run series v1")
    + parties
    + struct.pack(">QB", not_after, 1)
    + lp(b"github:8412:1")
    + third_epoch,
)


def machine_key(bits):
    """A key for a machine that is no TLS stack of ours."""
    info = lp(b"claviger machine key v1") + parties + struct.pack(">QH", not_after, bits)
    return expand(base, info, bits // 8)


early = extract(bytes(32), bytes([1]) * 32)
binder_key = label(early, b"ext binder", hashlib.sha256(b"").digest())
binder = hmac.new(label(binder_key, b"finished", b""), bytes([2]) * 32, hashlib.sha256).digest()

# A record, and its hash as a leaf of the audit log's tree (RFC 6962, section 2.1).
body = b'{"time":1800000000,"event":"server_started","epoch":1}'
leaf = hashlib.sha256(b"\0" + body).digest()

vectors = {
    "identity": "p1." + base64.urlsafe_b64encode(identity).decode().rstrip("="),
    "base": base.hex(),
    "psk": psk.hex(),
    "psk_run": psk_run.hex(),
    "psk_series": psk_series.hex(),
    "psk_run_series": psk_run_series.hex(),
    **{f"machine_key_{bits}": machine_key(bits).hex() for bits in (64, 256, 1_024)},
    "binder": binder.hex(),
    "audit_body": body.decode(),
    "audit_leaf": leaf.hex(),
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, indent=2) + "\n")
