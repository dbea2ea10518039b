// Mastra: an agent with the tools of several servers.
//
//     node mastra.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { Agent } from '@mastra/core/agent';
import { MCPClient } from '@mastra/mcp';

const [provider, model, prompt, ...servers] = process.argv.slice(2);
const entries = servers.map((entry) => entry.split('=')).map(([name, url]) => [name, { url: new URL(url) }]);
const client = new MCPClient({ servers: Object.fromEntries(entries) });
const agent = new Agent({
  id: 'clients',
  name: 'clients',
  instructions: 'Use the tools.',
  model: { id: `openai/${model}`, url: `${provider}/v1`, apiKey: 'none' },
  tools: await client.listTools(),
});
const { text } = await agent.generate(prompt, { maxSteps: 20 });
await client.disconnect();
console.log(text);
