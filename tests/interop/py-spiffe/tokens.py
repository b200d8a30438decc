"""What py-spiffe sees of the JWT profile."""

import base64
import json
import queue
import time

from client import DOMAIN, SOCKET, check, claviger, create_entry, ok
from spiffe import JwtSource, JwtSvid, SpiffeId, TrustDomain, WorkloadApiClient
from spiffe.workloadapi.errors import FetchJwtSvidError, ValidateJwtSvidError

PARTNER = "partner.example.org"
AUDIENCE = {"bank", "shop"}
TTL = 30


def refused(error, code, action):
    """Checks that `action` fails with the status `code`."""
    try:
        action()
    except error as reason:
        check(code in str(reason), f"not {code}: {reason}")
    else:
        raise AssertionError(f"not refused with {code}")


def the_profile_holds(svid, name):
    """What the standard says of header and claims, whatever the client makes of it."""
    header, claims, _ = (
        part + "=" * (-len(part) % 4) for part in svid.token.split(".")
    )
    header, claims = (json.loads(base64.urlsafe_b64decode(part)) for part in (header, claims))
    check(set(header) == {"alg", "kid", "typ"} and header["typ"] == "JWT", str(header))
    check(claims["sub"] == f"spiffe://{DOMAIN}/{name}", str(claims))
    check(isinstance(claims["aud"], list) and set(claims["aud"]) == AUDIENCE, str(claims))
    check(isinstance(claims["exp"], int), str(claims))
    check(0 < claims["exp"] - time.time() <= TTL + 1, f"{claims} at {time.time()}")
    return header["kid"]


def tokens_are_fetched_and_validated(client):
    svid = client.fetch_jwt_svid(audience=AUDIENCE, timeout=10)
    kid = the_profile_holds(svid, "caller")
    bundles = client.fetch_jwt_bundles(timeout=10)
    bundle = bundles.get_bundle_for_trust_domain(TrustDomain(DOMAIN))
    check(kid in bundle.jwt_authorities, f"{kid} is not in the bundle")
    offline = JwtSvid.parse_and_validate(svid.token, bundle, {"bank"})
    online = client.validate_jwt_svid(svid.token, "shop", timeout=10)
    check(offline.spiffe_id == online.spiffe_id == svid.spiffe_id, "names differ")
    ok("FetchJWTSVID, FetchJWTBundles: the token holds offline; ValidateJWTSVID agrees")
    return svid.token


def bad_tokens_are_refused(client, token):
    head, claims, signature = token.split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for bad, audience in (
        (token, "elsewhere"), (forged, "bank"), (f"{unsigned}.{claims}.", "bank"), ("x", "bank"),
    ):  # fmt: skip
        refused(
            ValidateJwtSvidError, "INVALID_ARGUMENT",
            lambda: client.validate_jwt_svid(bad, audience, timeout=10),
        )  # fmt: skip
    ok("wrong audience, forged, unsigned, no token: INVALID_ARGUMENT")
    refused(
        FetchJwtSvidError, "PERMISSION_DENIED",
        lambda: client.fetch_jwt_svid(AUDIENCE, SpiffeId(f"spiffe://{DOMAIN}/other"), timeout=10),
    )  # fmt: skip
    ok("a token for somebody else: PERMISSION_DENIED")


def the_source_follows_bundles():
    updates = queue.Queue()
    with JwtSource(socket_path=SOCKET, timeout_in_seconds=10) as source:
        names = [str(svid.spiffe_id) for svid in source.fetch_svids(AUDIENCE, timeout=10)]
        check(names == [f"spiffe://{DOMAIN}/caller"], str(names))
        check(len(source.bundles) == 1, str(source.bundles))
        source.subscribe_for_updates(lambda: updates.put(time.monotonic()))
        begin = time.monotonic()
        # Any keys will do: nobody of that trust domain is here.
        keys = claviger("bundle", "show", "--format", "spiffe")
        claviger("bundle", "set", "--id", PARTNER, "--format", "spiffe", stdin=keys)
        took = updates.get(timeout=10) - begin
        partner = source.get_bundle_for_trust_domain(TrustDomain(PARTNER))
        check(partner is not None and partner.jwt_authorities, "no keys of the partner")
    ok(f"JwtSource: a federated bundle is there, {took * 1000:.0f} ms after the command began")


create_entry("caller", "--wait", "--jwt-svid-ttl", str(TTL), "--federates-with", PARTNER)
with WorkloadApiClient(SOCKET) as workload_api:
    fetched = tokens_are_fetched_and_validated(workload_api)
    bad_tokens_are_refused(workload_api, fetched)
the_source_follows_bundles()
claviger("entry", "delete", "--entry-id", "caller")
