"use strict";
const grpc = require("@grpc/grpc-js");
const service = require("./service.js");

const server = new grpc.Server();
server.addService(service, {
  say: (call, done) => done(null, `you said ${call.request}`),
  talk: (call) => {
    call.on("data", (word) => call.write(`you said ${word}`));
    call.on("end", () => call.end());
  },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`listening on ${port}`);
});
