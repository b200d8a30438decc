#!/usr/bin/env node
// server.js PURPOSE PORT
//
// How does a program on Node accept connections authenticated by one-time keys? Prints who calls, and
// answers the first line of each caller by a greeting.
"use strict";
const { execFileSync } = require("node:child_process");
const { constants } = require("node:crypto");
const tls = require("node:tls");

const [purpose, port] = process.argv.slice(2);

// Who is at the other end of each connection.
const callers = new WeakMap();

// Spends the key with this name. Node wants the answer at once, so everybody else waits: where that is too
// long, put a shim in front.
function redeem(identity) {
  // A stranger sent it.
  if (!/^p1\.[A-Za-z0-9_-]{22}$/.test(identity)) return null;
  const command = ["psk", "redeem", "--output", "json", "--identity", identity];
  try {
    return JSON.parse(execFileSync("claviger", command, { stdio: "pipe", timeout: 5000 }));
  } catch {
    return null;
  }
}

function pskCallback(socket, identity) {
  // Node asks again if it made the client retry its ClientHello; the key is spent by then.
  let caller = callers.get(socket);
  if (caller?.identity !== identity) caller = redeem(identity);
  if (caller?.purpose !== purpose) return null; // No key: the handshake fails.
  callers.set(socket, caller);
  return Buffer.from(caller.key, "hex");
}

const server = tls.createServer({
  minVersion: "TLSv1.3",
  // `PSK` switches the callback on; Node needs the suites of TLS 1.3 named beside it.
  ciphers: "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:PSK",
  // No certificate: with one, a client without a key would be let in. And no ticket that tells more than the
  // name of a session that this server forgets: it would open a second connection.
  secureOptions: constants.SSL_OP_NO_TICKET,
  pskCallback,
  handshakeTimeout: 10_000,
});
server.on("secureConnection", (socket) => {
  const caller = callers.get(socket);
  if (!caller || !socket.isSessionReused()) return socket.destroy();
  console.log(`${caller.client_id} for ${caller.purpose}`);
  socket.setTimeout(10_000, () => socket.destroy());
  socket.once("data", () => socket.end(`hello ${caller.client_id}\n`));
  socket.on("error", () => socket.destroy());
});
server.on("tlsClientError", (error) => console.error(`refused: ${error.message}`));
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
