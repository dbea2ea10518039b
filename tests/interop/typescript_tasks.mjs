// An official TypeScript client of tools whose calls become tasks. Prints what it saw as JSON.
//
//     typescript_tasks.mjs URL first|auto|legacy TOOL    without the extension: a short call, then one that takes four seconds
//     typescript_tasks.mjs URL tasks                     with it, by @modelcontextprotocol/ext-tasks

const [url, generation, tool] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = generation === 'first'
  ? {
      ...(await import('@modelcontextprotocol/sdk/client/index.js')),
      ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
    }
  : await import('@modelcontextprotocol/client');
const clientInfo = { name: 'interop', version: '1.0.0' };
const mode = generation === 'tasks' ? 'auto' : generation;
const client = new Client(clientInfo, generation === 'first' ? {} : { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function withoutExtension() {
  // From here on it checks results against output schemas.
  await client.listTools();
  const call = async (name, args) => {
    const result = await client.callTool({ name, arguments: args });
    return { isError: result.isError ?? false, text: result.content[0].text, structured: result.structuredContent };
  };
  const quick = await call(tool, { seconds: 0.1 });
  const handle = await call(tool, { seconds: 4 });
  const task_id = /task_id `([^`]+)`/.exec(handle.text)[1];
  const states = [];
  for (;;) {
    const result = await call('get_task_result', { task_id });
    if (!result.isError || states.length === 60) return { quick, handle, states, result };
    states.push(result.text);
    await pause(500);
  }
}

async function withExtension() {
  const { createTaskSessionFromClient, resultFromTaskOutcome } = await import('@modelcontextprotocol/ext-tasks/client');
  const { getProtocolVersion } = client;
  const protocolVersion = getProtocolVersion?.call(client) ?? '2026-07-28';
  const names = { 'tools/call': 'name', 'tasks/get': 'taskId', 'tasks/update': 'taskId', 'tasks/cancel': 'taskId' };
  const sent = [];
  let id = 1000;
  // The package leaves the sending of tasks to the program.
  const rawDispatch = async (request) => {
    id += 1;
    const headers = {
      'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': protocolVersion,
      'mcp-method': request.method, 'mcp-name': request.params[names[request.method]],
    };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ jsonrpc: '2.0', id, ...request }) });
    const text = await response.text();
    const message = JSON.parse(text.startsWith('{') ? text : text.split('\n').findLast((line) => line.startsWith('data: {')).slice(6));
    sent.push(request.method);
    return message.error ? { kind: 'error', error: message.error } : { kind: 'result', result: message.result };
  };
  const capabilities = { elicitation: { form: {} } };
  const asked = [];
  const session = createTaskSessionFromClient(client, {
    endpointId: 'interop',
    rawDispatch,
    v2RequestFraming: { protocolVersion, clientInfo, clientCapabilities: capabilities },
    onInputRequest: async ({ params }) => {
      asked.push(params.message);
      const values = { confirm: true, name: `name ${asked.length}` };
      const names = Object.keys(params.requestedSchema.properties);
      return { action: 'accept', content: Object.fromEntries(names.map((name) => [name, values[name]])) };
    },
  });
  const settled = async (name, args) => {
    const execution = await session.callTool(name, args);
    const states = [];
    const { outcome } = await execution.settle({ onEvent: ({ task }) => { if (task) states.push(task.status); } });
    let text;
    try {
      text = resultFromTaskOutcome(outcome).content[0].text;
    } catch (error) {
      text = error.message;
    }
    return { kind: execution.kind, states: [...new Set(states)], status: outcome.status, text };
  };
  const quick = await settled('greet', { name: 'Ada' });
  const slow = await settled('slow_compute', { seconds: 2 });
  const structured = await settled('count_later', { seconds: 2 });
  const failing = await settled('failing_job', {});
  const broken = await settled('protocol_error_job', {});
  const confirmed = await settled('confirm_delete', { filename: 'a.txt' });
  const twice = await settled('multi_input', {});
  const execution = await session.callTool('slow_compute', { seconds: 3600 });
  await execution.cancel();
  const cancelled = (await execution.settle()).outcome.status;
  await session.close();
  return { quick, slow, structured, failing, broken, confirmed, twice, cancelled, asked, sent: [...new Set(sent)].sort() };
}

console.log(JSON.stringify(await (generation === 'tasks' ? withExtension() : withoutExtension())));
await client.close();
