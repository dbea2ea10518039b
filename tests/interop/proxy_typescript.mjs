// An official TypeScript client starts `mcpl proxy` and uses event-logger through it. Prints what it saw as JSON.
//
//     node proxy_typescript.mjs MODE COMMAND WORD...
//
// MODE is `sdk` (the first generation), `auto`, `legacy` or `2026-07-28`.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import * as next from '@modelcontextprotocol/client';
import * as nextStdio from '@modelcontextprotocol/client/stdio';

const [mode, command, ...args] = process.argv.slice(2);
const sdk = mode === 'sdk' ? { Client, StdioClientTransport } : { ...next, ...nextStdio };
const negotiation = { versionNegotiation: { mode: mode === 'auto' || mode === 'legacy' ? mode : { pin: mode } } };
const client = new sdk.Client({ name: 'interop', version: '1.0.0' }, mode === 'sdk' ? {} : negotiation);

await client.connect(new sdk.StdioClientTransport({ command, args, stderr: 'inherit', env: process.env }));
const { tools } = await client.listTools();
const call = async (name, argumentsOfTool) => {
  const result = await client.callTool({ name, arguments: argumentsOfTool });
  return { text: result.content[0].text, isError: result.isError ?? false };
};
const latest = await call('get_latest_events', { limit: 1 });
const logged = await call('log_event', { event_name: 'login' });
await client.close();
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), latest, logged }));
