#!/usr/bin/env python3
"""Computes seal.json from docs/protocol.md with Python's `hashlib` and the package `cryptography`,
independently of core/ and runtime/: RFC 9180 base mode, sealed with a fixed ephemeral key.
"""
import hashlib
import hmac
import json
import pathlib
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def lp(part):
    return struct.pack(">H", len(part)) + part


def labeled_extract(suite, salt, label, ikm):
    return hmac.new(salt, b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()


def labeled_expand(suite, prk, label, info, length):
    info = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def raw(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def seal(recipient, ephemeral, info, aad, plaintext):
    """DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""
    kem = b"KEM" + struct.pack(">H", 0x0020)
    suite = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0002)
    enc = raw(ephemeral.public_key())
    dh = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    prk = labeled_extract(kem, b"", b"eae_prk", dh)
    shared = labeled_expand(kem, prk, b"shared_secret", enc + recipient, 32)
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"")
    context += labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    key = labeled_expand(suite, secret, b"key", context, 32)
    nonce = labeled_expand(suite, secret, b"base_nonce", context, 12)
    return enc, AESGCM(key).encrypt(nonce, plaintext, aad)


nonce = bytes([7]) * 32
binding = hashlib.sha384(
    lp(b"claviger/att/v1")
    + lp(nonce)
    + lp(b"example.org")
    + lp(b"spiffe://example.org/spire/server")
    + lp(b"aws_nitro")
    + hashlib.sha384(b"a key").digest()
    + lp(b"")
).digest()
info = lp(b"claviger/seal/v1") + lp(b"spiffe://example.org/enclave") + binding
aad = hashlib.sha384(b"evidence").digest() + lp(b"g1")

private = X25519PrivateKey.from_private_bytes(bytes([3]) * 32)
ephemeral = X25519PrivateKey.from_private_bytes(bytes([5]) * 32)
enc, ciphertext = seal(raw(private.public_key()), ephemeral, info, aad, b'{"psk":"00"}')

vectors = {
    "binding": binding.hex(),
    "info": info.hex(),
    "aad": aad.hex(),
    "private": (bytes([3]) * 32).hex(),
    "enc": enc.hex(),
    "ciphertext": ciphertext.hex(),
    "plaintext": '{"psk":"00"}',
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, indent=2) + "\n")
