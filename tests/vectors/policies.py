#!/usr/bin/env python3
"""Computes policies.json from docs/protocol.md with Python's `json`, `hashlib` and the package
`cryptography`, independently of core/ and policy/. The key is that of RFC 7515, appendix A.3.
"""
import base64
import hashlib
import json
import pathlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

SECRET = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


files = [["a.cedar", 'permit (principal, action, resource)\nwhen { "ö" == "ö" };\n'], ["tools.toml", ""]]
policies = compact({"files": files})
claims = {
    "exp": 1_800_003_600,
    "iat": 1_800_000_000,
    "iss": "spiffe://example.org",
    "policy": hashlib.sha256(b"any digest").hexdigest(),
    "sha256": hashlib.sha256(policies).hexdigest(),
    "version": 1_800_000_000,
}
header = {"alg": "ES256", "kid": "k", "typ": "claviger-policies+jwt"}
signed = text(compact(header)) + "." + text(compact(claims))
number = int.from_bytes(base64.urlsafe_b64decode(SECRET + "="), "big")
key = ec.derive_private_key(number, ec.SECP256R1())
r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
token = signed + "." + text(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
point = key.public_key().public_numbers()
x, y = (text(number.to_bytes(32, "big")) for number in (point.x, point.y))
out = {
    "public_key": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
    "policies": policies.decode(),
    "policy": claims["policy"],
    "token": token,
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(out, indent=2, ensure_ascii=False) + "\n")
