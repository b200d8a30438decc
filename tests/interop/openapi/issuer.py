"""A CI system: without an argument its keys, as a JWK Set; with one, a token for a job of its."""
import json
import os
import sys
import time
import uuid

import jwt

KEY = open(os.environ["ISSUER_KEY"]).read()


def keys():
    public = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).prepare_key(KEY).public_key()
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public))
    return {"keys": [{**key, "kid": "k", "alg": "ES256", "use": "sig"}]}


def token():
    now = int(time.time())
    claims = {
        "iss": "https://ci.example.org",
        "aud": os.environ["CLAVIGER_AUDIENCE"],
        "sub": "job",
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": "k"})


if __name__ == "__main__":
    print(token() if len(sys.argv) > 1 else json.dumps(keys()))
