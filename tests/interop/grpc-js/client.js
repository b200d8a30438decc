// What a gRPC client in JavaScript sees of the Workload API.
"use strict";
const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const fs = require("node:fs");
const { execFileSync } = require("node:child_process");
const { call, close, open, status } = require("./workload-api.js");

const domain = `spiffe://${process.env.TRUST_DOMAIN}`;
const first = `${domain}/first`;
const ok = (text) => console.log(`  ok    ${text}`);
const claviger = (...args) => execFileSync(process.env.CLAVIGER, args);

// Entitles this process, by user and by the interpreter that it runs.
function createEntry(name, ...more) {
  claviger(
    "entry", "create", "--wait", "--entry-id", name, "--spiffe-id", `${domain}/${name}`,
    "--selector", `unix:uid:${process.getuid()}`,
    "--selector", `unix:path:${fs.realpathSync("/proc/self/exe")}`, ...more,
  );
}

async function refused(code, method, request, header) {
  const begin = Date.now();
  const what = `${method} ${JSON.stringify({ request, header })}`;
  await assert.rejects(call(method, request, header), { code }, what);
  assert.ok(Date.now() - begin < 1_000, `${what}: took ${Date.now() - begin} ms`);
}

const decode = (part) => JSON.parse(Buffer.from(part, "base64url"));

// Checks a token as a relying party does, and returns its header and claims.
function verify(token, bundle, type) {
  const [header, claims, signature] = token.split(".");
  const { kid, typ, alg } = decode(header);
  assert.deepEqual({ typ, alg }, { typ: type, alg: "ES256" });
  const jwk = JSON.parse(bundle).keys.find((key) => key.kid === kid);
  assert.ok(jwk, `no key ${kid} in the bundle`);
  const key = { key: crypto.createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
  const signed = Buffer.from(`${header}.${claims}`);
  assert.ok(crypto.verify("sha256", signed, key, Buffer.from(signature, "base64url")), "signature");
  const decoded = decode(claims);
  assert.ok(decoded.exp > Date.now() / 1000, "expired");
  return decoded;
}

async function strangersAreRefused() {
  for (const method of [
    "FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles", "FetchWITSVID", "FetchWITBundles",
  ]) {
    await refused(status.PERMISSION_DENIED, method);
  }
  await refused(status.PERMISSION_DENIED, "FetchJWTSVID", { audience: ["a"] });
  ok("no identity: PERMISSION_DENIED");
}

async function theHeaderIsRequired() {
  for (const header of [[], ["True"], [""], ["true", "true"], ["true", "false"]]) {
    for (const method of ["FetchX509SVID", "FetchJWTBundles", "FetchWITSVID"]) {
      await refused(status.INVALID_ARGUMENT, method, {}, header);
    }
    await refused(status.INVALID_ARGUMENT, "FetchJWTSVID", { audience: ["a"] }, header);
  }
  ok("security header missing, misspelt, empty or twice: INVALID_ARGUMENT");
  await refused(status.UNIMPLEMENTED, "FetchEverything");
  ok("unknown method: UNIMPLEMENTED");
}

async function itFetchesX509() {
  const { svids, crl, federated_bundles } = await call("FetchX509SVID");
  assert.equal(svids.length, 1);
  const [svid] = svids;
  assert.equal(svid.spiffe_id, first);
  assert.equal(svid.hint, "main");
  assert.deepEqual([crl, federated_bundles], [[], {}]);
  const leaf = new crypto.X509Certificate(svid.x509_svid);
  assert.equal(leaf.subjectAltName, `URI:${first}`);
  const key = crypto.createPrivateKey({ key: svid.x509_svid_key, format: "der", type: "pkcs8" });
  assert.ok(leaf.checkPrivateKey(key), "another certificate's key");
  const authority = new crypto.X509Certificate(svid.bundle);
  assert.ok(leaf.verify(authority.publicKey), "not signed by the bundle's authority");
  const { bundles } = await call("FetchX509Bundles");
  assert.deepEqual(bundles, { [domain]: svid.bundle });
  ok("FetchX509SVID and FetchX509Bundles: chain and key hold");
}

async function itFetchesJwt() {
  const { svids } = await call("FetchJWTSVID", { audience: ["db", "web"], spiffe_id: first });
  const { bundles } = await call("FetchJWTBundles");
  const claims = verify(svids[0].svid, bundles[domain], "JWT");
  assert.deepEqual([svids[0].spiffe_id, svids[0].hint], [first, "main"]);
  assert.deepEqual([claims.sub, claims.aud], [first, ["db", "web"]]);
  const judged = await call("ValidateJWTSVID", { audience: "web", svid: svids[0].svid });
  assert.equal(judged.spiffe_id, first);
  assert.equal(judged.claims.fields.exp.numberValue, claims.exp);
  ok("FetchJWTSVID, FetchJWTBundles and ValidateJWTSVID agree with Node's own verification");

  const invalid = status.INVALID_ARGUMENT;
  await refused(invalid, "ValidateJWTSVID", { audience: "other", svid: svids[0].svid });
  await refused(invalid, "ValidateJWTSVID", { audience: "", svid: svids[0].svid });
  await refused(invalid, "ValidateJWTSVID", { audience: "web", svid: "" });
  await refused(invalid, "FetchJWTSVID", { audience: [] });
  await refused(invalid, "FetchJWTSVID", { audience: [""] });
  await refused(invalid, "FetchJWTSVID", { audience: ["db", ""] });
  await refused(invalid, "FetchJWTSVID", { audience: ["db"], spiffe_id: "first" });
  const nobody = { audience: ["db"], spiffe_id: `${domain}/nobody` };
  await refused(status.PERMISSION_DENIED, "FetchJWTSVID", nobody);
  ok('audience [], [""] and other nonsense: INVALID_ARGUMENT at once');
}

async function itFetchesWit() {
  const { svids } = await call("FetchWITSVID", { spiffe_id: first });
  const { bundles } = await call("FetchWITBundles");
  const claims = verify(svids[0].wit_svid, bundles[domain], "wit+jwt");
  assert.deepEqual([svids[0].hint, claims.sub, claims.aud], ["main", first, undefined]);
  const jwk = JSON.parse(svids[0].wit_svid_key);
  const { kty, crv, x, y } = claims.cnf.jwk;
  assert.deepEqual([kty, crv, x, y], [jwk.kty, jwk.crv, jwk.x, jwk.y]);
  assert.equal(claims.cnf.jwk.d, undefined);
  assert.equal(crypto.createPrivateKey({ key: jwk, format: "jwk" }).type, "private");
  await refused(status.PERMISSION_DENIED, "FetchWITSVID", { spiffe_id: `${domain}/nobody` });
  ok("FetchWITSVID and FetchWITBundles: the token holds, and is bound to its key");
}

async function streamsFollow() {
  const streams = ["FetchX509SVID", "FetchWITSVID"].map(open);
  const namesBecome = async (...names) => {
    for (const stream of streams) {
      let seen;
      do {
        const update = await stream.next();
        assert.ok(!(update instanceof Error), update);
        seen = update.svids.map((svid) => svid.spiffe_id.slice(domain.length + 1)).sort();
      } while (seen.join() !== names.join());
    }
  };
  await namesBecome("first");
  createEntry("second");
  await namesBecome("first", "second");
  claviger("entry", "delete", "--entry-id", "second");
  await namesBecome("first");
  ok("entries come and go on the open streams");
  claviger("entry", "delete", "--entry-id", "first");
  for (const stream of streams) {
    assert.equal((await stream.next()).code, status.PERMISSION_DENIED);
  }
  ok("the last identity gone: the streams end with PERMISSION_DENIED");
}

async function story() {
  await strangersAreRefused();
  await theHeaderIsRequired();
  createEntry("first", "--hint", "main");
  await itFetchesX509();
  await itFetchesJwt();
  await itFetchesWit();
  await streamsFollow();
}

story()
  .finally(close)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
