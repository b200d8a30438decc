// The Workload API as grpc-js makes it from the .proto, and how its calls end.
"use strict";
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const HEADER = "workload.spiffe.io";
const { SpiffeWorkloadAPI } = grpc.loadPackageDefinition(
  loadSync(process.env.PROTO, { keepCase: true, defaults: true }),
);
const address = process.env.SPIFFE_ENDPOINT_SOCKET;
const api = new SpiffeWorkloadAPI(address, grpc.credentials.createInsecure());
// The same socket with a method that no standard knows.
const Unknown = grpc.makeGenericClientConstructor({
  FetchEverything: {
    path: "/SpiffeWorkloadAPI/FetchEverything",
    requestStream: false,
    responseStream: false,
    requestSerialize: (request) => request,
    requestDeserialize: (request) => request,
    responseSerialize: (response) => response,
    responseDeserialize: (response) => response,
  },
});
const unknown = new Unknown(address, grpc.credentials.createInsecure());

function metadata(...values) {
  const metadata = new grpc.Metadata();
  for (const value of values) metadata.add(HEADER, value);
  return metadata;
}

// The answer, or the first message of a stream; rejects with the status.
function call(method, request = {}, values = ["true"]) {
  const client = method in api ? api : unknown;
  const body = client === api ? request : Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + 10_000 };
    if (api[method]?.responseStream) {
      const stream = api[method](body, metadata(...values), options);
      stream.on("data", (message) => {
        resolve(message);
        stream.cancel();
      });
      stream.on("error", reject);
      stream.on("end", () => reject(new Error(`${method} ended without a message`)));
    } else {
      client[method](body, metadata(...values), options, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    }
  });
}

// A stream whose messages and errors are taken one after the other, each within five seconds.
function open(method) {
  const arrived = [];
  let wake = () => {};
  const push = (update) => {
    arrived.push(update);
    wake();
  };
  const stream = api[method]({}, metadata("true"));
  stream.on("data", push).on("error", push);
  const next = async () => {
    if (arrived.length === 0) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${method}: no message in 5 s`)), 5_000);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return arrived.shift();
  };
  return { next };
}

function close() {
  api.close();
  unknown.close();
}

module.exports = { call, close, open, status: grpc.status };
