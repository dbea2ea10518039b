// The AI SDK with its MCP client: goes through a script with the tools of several servers in one conversation.
//
//     node ai_sdk.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { createMCPClient } from '@ai-sdk/mcp';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, isStepCount } from 'ai';

const [provider, model, prompt, ...servers] = process.argv.slice(2);
const clients = [];
let tools = {};
for (const entry of servers) {
  const [name, url] = entry.split('=');
  const client = await createMCPClient({ transport: { type: 'http', url } });
  clients.push(client);
  for (const [tool, own] of Object.entries(await client.tools())) tools[`${name}_${tool}`] = own;
}
const openai = createOpenAI({ baseURL: `${provider}/v1`, apiKey: 'none' });
const { text, warnings } = await generateText({ model: openai(model), tools, prompt, stopWhen: isStepCount(20) });
for (const warning of warnings ?? []) console.error('warning:', JSON.stringify(warning));
for (const client of clients) await client.close();
console.log(text);
