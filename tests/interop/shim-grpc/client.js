// client.js PORT: fifty calls at a time, and fifty words on one stream.
"use strict";
const assert = require("node:assert");
const grpc = require("@grpc/grpc-js");
const service = require("./service.js");

const Client = grpc.makeGenericClientConstructor(service, "interop.Echo");
const client = new Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
const deadline = { deadline: Date.now() + 10_000 };

const say = (word) =>
  new Promise((resolve, reject) =>
    client.say(word, deadline, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

async function talk(words) {
  const call = client.talk(deadline);
  for (const word of words) call.write(word);
  call.end();
  const answers = [];
  for await (const answer of call) answers.push(answer);
  return answers;
}

async function main() {
  const words = Array.from({ length: 50 }, (_, number) => `word ${number} `.repeat(100));
  const wanted = words.map((word) => `you said ${word}`);
  assert.deepStrictEqual(await Promise.all(words.map(say)), wanted);
  assert.deepStrictEqual(await talk(words), wanted);
  console.log("100 answers, one by one and as a stream");
  client.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
