// The OpenAI Agents SDK: an agent with several servers, whose tools it offers as strict ones where it can.
//
//     node openai_agents.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { Agent, MCPServerStreamableHttp, OpenAIProvider, Runner } from '@openai/agents';

const [provider, model, prompt, ...servers] = process.argv.slice(2);
const mcpServers = servers.map((entry) => {
  const [name, url] = entry.split('=');
  return new MCPServerStreamableHttp({ name, url });
});
for (const server of mcpServers) await server.connect();
const agent = new Agent({ name: 'clients', model, mcpServers, mcpConfig: { convertSchemasToStrict: true } });
const runner = new Runner({
  modelProvider: new OpenAIProvider({ apiKey: 'none', baseURL: `${provider}/v1` }),
  tracingDisabled: true,
});
const result = await runner.run(agent, prompt, { maxTurns: 20 });
for (const server of mcpServers) await server.close();
console.log(result.finalOutput);
