#!/usr/bin/env node
// client.js PEER PURPOSE HOST PORT
//
// How does a program on Node open a connection that a one-time key authenticates? Sends its standard input,
// and prints what it receives.
"use strict";
const { execFile } = require("node:child_process");
const { promisify } = require("node:util");
const tls = require("node:tls");

// A key for one connection to the peer.
async function issue(peer, purpose) {
  const command = ["psk", "issue", "--output", "json", "--peer", peer, "--purpose", purpose];
  const { stdout } = await promisify(execFile)("claviger", command);
  return JSON.parse(stdout);
}

// The connection; nobody but the peer can be at its other end.
function connect({ identity, key }, host, port) {
  const socket = tls.connect({
    host,
    port,
    minVersion: "TLSv1.3",
    // `PSK` switches the callback on; Node needs the suites of TLS 1.3 named beside it.
    ciphers: "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:PSK",
    pskCallback: () => ({ identity, psk: Buffer.from(key, "hex") }),
    // A server that ignores the key and shows a certificate is refused, whoever signed it: nobody is
    // trusted. Without this line all the public authorities are, for any name.
    ca: [],
    checkServerIdentity: () => undefined,
  });
  socket.prependListener("secureConnect", () => {
    // What authenticated the server is the key.
    if (!socket.isSessionReused()) socket.destroy(new Error("the server did not use the key"));
  });
  return socket;
}

async function main([peer, purpose, host, port]) {
  const socket = connect(await issue(peer, purpose), host, Number(port));
  socket.on("secureConnect", () => {
    if (!socket.destroyed) process.stdin.pipe(socket);
  });
  socket.pipe(process.stdout);
  socket.on("end", () => process.stdin.destroy());
  socket.on("error", (error) => {
    console.error(`refused: ${error.code}: ${error.message}`);
    process.exitCode = 1;
    process.stdin.destroy();
  });
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
