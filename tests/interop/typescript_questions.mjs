// The first generation of the official TypeScript SDK, asked by a server: answers after some seconds. Prints what came of it as JSON.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const [url, seconds] = process.argv.slice(2);
const capabilities = { elicitation: { form: {} }, sampling: {} };
const client = new Client({ name: 'interop', version: '1.0.0' }, { capabilities });
// A call has a minute, by the default of this SDK: after a long time the second question of a call is answered at once.
const isSecond = (message) => Number(seconds) > 20 && message.startsWith('Step 2');
const thinks = (message = '') => new Promise((done) => setTimeout(done, isSecond(message) ? 0 : 1000 * Number(seconds)));
const asked = [];
client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
  asked.push(params.message);
  await thinks(params.message);
  const values = { name: 'Ada', ok: true };
  const names = Object.keys(params.requestedSchema.properties);
  return { action: 'accept', content: Object.fromEntries(names.map((name) => [name, values[name]])) };
});
client.setRequestHandler(CreateMessageRequestSchema, async () => {
  await thinks();
  return { role: 'assistant', content: { type: 'text', text: 'Hi.' }, model: 'test' };
});

await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const call = async (name, args = {}) => (await client.callTool({ name, arguments: args })).content[0].text;
const greeted = await call('test_input_required_result_elicitation');
const twice = await call('test_input_required_result_multi_round');
const sampled = await call('test_sampling', { prompt: 'Hello?' });
console.log(JSON.stringify({ asked, greeted, twice, sampled }));
await client.close();
