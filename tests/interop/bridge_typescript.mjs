// An official TypeScript client starts `mcpl proxy` and uses `era_server.mjs` through it. Prints what it saw as JSON.
//
//     node bridge_typescript.mjs MODE COMMAND WORD...
//
// MODE is `sdk` (the first generation), `auto`, `legacy` or `2026-07-28`.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ElicitRequestSchema, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import * as next from '@modelcontextprotocol/client';
import * as nextStdio from '@modelcontextprotocol/client/stdio';

const [mode, command, ...args] = process.argv.slice(2);
const isFirst = mode === 'sdk';
const sdk = isFirst ? { Client, StdioClientTransport } : { ...next, ...nextStdio };
const saw = { asked: [], progress: [], changed: 0 };
const options = { capabilities: { elicitation: { form: {} } } };
if (!isFirst) {
  options.versionNegotiation = { mode: mode === 'auto' || mode === 'legacy' ? mode : { pin: mode } };
  // It listens to what it has a handler for.
  options.listChanged = { tools: { autoRefresh: false, debounceMs: 0, onChanged: () => (saw.changed += 1) } };
}
const client = new sdk.Client({ name: 'interop', version: '1.0.0' }, options);
client.setRequestHandler(isFirst ? ElicitRequestSchema : 'elicitation/create', async ({ params }) => {
  saw.asked.push(params.message);
  return { action: 'accept', content: { name: 'Ada' } };
});
if (isFirst) client.setNotificationHandler(ToolListChangedNotificationSchema, () => void (saw.changed += 1));

await client.connect(new sdk.StdioClientTransport({ command, args, stderr: 'inherit', env: process.env }));
saw.server = client.getServerVersion();
saw.instructions = client.getInstructions();
saw.tools = (await client.listTools()).tools.map((tool) => tool.name);
const onprogress = ({ progress }) => void saw.progress.push(progress);
const call = async (name) => {
  const all = isFirst ? [{ name, arguments: {} }, undefined, { onprogress }] : [{ name, arguments: {} }, { onprogress }];
  return (await client.callTool(...all)).content[0].text;
};
saw.counted = await call('count');
saw.greeted = await call('greet');
// The stream of news may open a moment later.
const news = async () => {
  saw.changed = 0;
  for (let tries = 0; tries < 50 && saw.changed === 0; tries += 1) {
    saw.grown = await call('grow');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return saw.changed > 0;
};
saw.news = await news();
saw.forgotten = await call('forget');
await new Promise((resolve) => setTimeout(resolve, 300));
saw.again = await call('count');
saw.newsAgain = await news();
await client.close();
console.log(JSON.stringify(saw));
