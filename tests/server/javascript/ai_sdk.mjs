// Streams messages with Vercel's AI SDK and its Anthropic provider, and prints the parts as JSON.
//
// Each line of the input: [url, [request, ...]]. The line of the output: [{"text", ...}, ...].
import { createInterface } from "node:readline";

import { createAnthropic } from "@ai-sdk/anthropic";
import { jsonSchema, streamText, tool } from "ai";

import { recording } from "./recording.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
for await (const line of createInterface({ input: process.stdin })) {
  const [url, asks] = JSON.parse(line);
  const results = [];
  for (const ask of asks) {
    const record = recording();
    const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "users-key", fetch: record.fetch });
    const tools = Object.fromEntries(
      ask.tools.map((each) => [
        each.name,
        tool({ description: each.description, inputSchema: jsonSchema(each.input_schema) }),
      ]),
    );
    const result = { text: "", thinking: "", errors: [] };
    try {
      const answer = streamText({
        model: anthropic("claude-sonnet-4-5"),
        tools,
        messages: ask.messages,
        maxRetries: 0,
        providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } },
        onError: () => {},
      });
      for await (const part of answer.fullStream) {
        if (part.type === "text-delta") result.text += part.text;
        if (part.type === "reasoning-delta") result.thinking += part.text;
        if (part.type === "error") result.errors.push(`${part.error}`);
      }
      result.content = await answer.content;
      result.finish = await answer.finishReason;
      result.usage = await answer.usage;
    } catch (error) {
      result.errors.push(`${error}`);
    }
    result.bytes = await record.bytes();
    results.push(result);
  }
  console.log(JSON.stringify(results));
}
