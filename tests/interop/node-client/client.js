// client.js PORT IDENTITY KEY: standard input to the server, and what it answers to standard output.
"use strict";
const tls = require("node:tls");

const [port, identity, key] = process.argv.slice(2);
const socket = tls.connect({
  host: "127.0.0.1",
  port: Number(port),
  minVersion: "TLSv1.3",
  // `PSK` switches the callback on; Node needs the suites of TLS 1.3 named beside it.
  ciphers: "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:PSK",
  pskCallback: () => ({ identity, psk: Buffer.from(key, "hex") }),
  // The key is what authenticates the server; there is no certificate to check.
  checkServerIdentity: () => undefined,
});
socket.on("secureConnect", () => {
  if (!socket.isSessionReused()) {
    socket.destroy(new Error("the server ignored the key"));
    return;
  }
  process.stdin.pipe(socket);
});
socket.pipe(process.stdout);
socket.on("error", (error) => {
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
  process.stdin.destroy();
});
