// What an application does with the openai package; prints one JSON object that the test looks at.
// Arguments: base URL of the API.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const ask = { model: "assistant", messages: [{ role: "user", content: "A dog is" }], max_tokens: 8 };
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Oslo", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const said = {};

const { data: whole, response } = await client.chat.completions.create({ ...ask, n: 2, store: true }).withResponse();
said.whole = { id: whole.id, model: whole.model, choices: whole.choices.length, usage: whole.usage };
said.headers = { version: response.headers.get("x-policy-version"), request: response.headers.get("x-request-id") };

let streamed = "";
const ids = new Set();
for await (const chunk of await client.chat.completions.create({
  ...ask,
  stream: true,
  stream_options: { include_usage: true },
})) {
  ids.add(`${chunk.id} ${chunk.created} ${chunk.model}`);
  streamed += chunk.choices[0]?.delta.content ?? "";
  said.streamUsage = chunk.usage?.completion_tokens ?? said.streamUsage;
}
said.streamed = { text: streamed, identities: ids.size };

const runner = client.chat.completions.stream({
  ...ask,
  max_tokens: 200,
  tools: [weather],
  tool_choice: { type: "function", function: { name: "weather" } },
});
const called = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0].function;
said.call = { name: called.name, city: JSON.parse(called.arguments).city };

const stored = await client.chat.completions.retrieve(whole.id);
said.stored = stored.choices.length;
said.listed = [];
for await (const each of client.chat.completions.list({ limit: 2 })) said.listed.push(each.id);
said.deleted = (await client.chat.completions.delete(whole.id)).deleted;

said.errors = [];
for (const fields of [{ model: "gpt-4" }, { temperature: -1 }, { audio: { voice: "x" } }]) {
  try {
    await client.chat.completions.create({ ...ask, ...fields });
  } catch (error) {
    said.errors.push([error.constructor.name, error.status, error.param, error.code, error.requestID !== undefined]);
  }
}
console.log(JSON.stringify(said));
