// LangChain.js: an agent with the tools of several servers, by its MCP adapters.
//
//     node langchain.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { MultiServerMCPClient } from '@langchain/mcp-adapters';
import { ChatOpenAI } from '@langchain/openai';
import { createAgent, toolRetryMiddleware } from 'langchain';

const [provider, model, prompt, ...servers] = process.argv.slice(2);
const mcpServers = Object.fromEntries(
  servers.map((entry) => entry.split('=')).map(([name, url]) => [name, { transport: 'http', url }]),
);
const client = new MultiServerMCPClient({ mcpServers, prefixToolNameWithServerName: true });
const tools = await client.getTools();
const chat = new ChatOpenAI({ model, apiKey: 'none', configuration: { baseURL: `${provider}/v1` } });
// Without it an error of a tool ends the agent.
const middleware = [toolRetryMiddleware({ maxRetries: 0, onFailure: (error) => error.message })];
const agent = createAgent({ model: chat, tools, middleware });
const { messages } = await agent.invoke({ messages: prompt }, { recursionLimit: 50 });
await client.close();
console.log(messages.at(-1).content);
