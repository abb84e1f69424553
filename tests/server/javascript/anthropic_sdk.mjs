// Streams messages with Anthropic's own TypeScript SDK, and prints what it made of each as JSON.
//
// Each line of the input: [url, [request, ...], headers]. The line of the output: [{"text", ...}, ...].
import { createInterface } from "node:readline";

import Anthropic from "@anthropic-ai/sdk";

import { recording } from "./recording.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const [url, asks, headers] = JSON.parse(line);
  const results = [];
  for (const ask of asks) {
    const record = recording();
    const client = new Anthropic({ baseURL: url, apiKey: "users-key", maxRetries: 0, fetch: record.fetch });
    const result = { text: "", thinking: "", inputs: [], blocks: [], order: [] };
    try {
      const stream = client.messages.stream(ask, { headers });
      stream.on("text", (delta) => (result.text += delta));
      stream.on("thinking", (delta) => (result.thinking += delta));
      stream.on("contentBlock", (block) => result.blocks.push(structuredClone(block)));
      stream.on("inputJson", (delta) => result.inputs.push(delta));
      stream.on("streamEvent", (event) => result.order.push([event.type, event.index ?? null]));
      result.message = await stream.finalMessage();
    } catch (error) {
      result.error = { name: error.constructor.name, status: error.status ?? null, text: `${error}` };
    }
    result.bytes = await record.bytes();
    results.push(result);
  }
  console.log(JSON.stringify(results));
}
