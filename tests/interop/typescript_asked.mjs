// The official TypeScript client answers what a server asks; prints what it was asked and what came of it, as JSON.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url] = process.argv.slice(2);
const client = new Client(
  { name: 'interop', version: '1.0.0' },
  { versionNegotiation: { mode: 'auto' }, capabilities: { elicitation: { form: {} }, sampling: {}, roots: {} } },
);
const asked = [];
const values = { name: 'Ada', ok: true };
client.setRequestHandler('elicitation/create', async ({ params }) => {
  asked.push(params.message);
  const names = Object.keys(params.requestedSchema.properties);
  return { action: 'accept', content: Object.fromEntries(names.map((name) => [name, values[name]])) };
});
client.setRequestHandler('sampling/createMessage', async () => ({
  role: 'assistant',
  content: { type: 'text', text: 'Hi.' },
  model: 'test',
}));
client.setRequestHandler('roots/list', async () => ({ roots: [{ uri: 'file:///home/ada' }] }));

await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const call = async (name) => (await client.callTool({ name, arguments: {} })).content[0].text;
const greeted = await call('test_input_required_result_elicitation');
const twice = await call('test_input_required_result_multi_round');
const atOnce = await call('test_input_required_result_multiple_inputs');
console.log(JSON.stringify({ asked, greeted, twice, atOnce }));
await client.close();
