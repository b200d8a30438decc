// The service that client and server speak of: text in, text out.
"use strict";

const text = { serialize: (value) => Buffer.from(value), deserialize: (bytes) => bytes.toString() };
const method = (path, stream) => ({
  path,
  requestStream: stream,
  responseStream: stream,
  requestSerialize: text.serialize,
  requestDeserialize: text.deserialize,
  responseSerialize: text.serialize,
  responseDeserialize: text.deserialize,
});

module.exports = { say: method("/interop.Echo/Say", false), talk: method("/interop.Echo/Talk", true) };
