// A server of one era alone, from the official SDK of that era. Prints its URL.
//
//     node era_server.mjs legacy|modern
//
// Its tools: `greet` asks who is there, `count` tells progress, `grow` changes the list of tools, `forget` ends the session.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import * as next from '@modelcontextprotocol/server';
import { z } from 'zod';

const QUESTION = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
const text = (words) => ({ content: [{ type: 'text', text: words }] });
const INFO = { name: 'one-era', version: '1.2.3' };
const OPTIONS = { capabilities: { tools: { listChanged: true }, logging: {} }, instructions: 'Be kind.' };

function withTools(server, { ask, notify, changed, forget }) {
  server.registerTool('greet', { inputSchema: z.object({}) }, (_, context) => ask(context));
  server.registerTool('count', { inputSchema: z.object({}) }, async (_, context) => {
    for (const progress of [1, 2, 3]) await notify(context, progress);
    return text('counted');
  });
  server.registerTool('grow', { inputSchema: z.object({}) }, async () => {
    await changed(server);
    return text('grown');
  });
  server.registerTool('forget', { inputSchema: z.object({}) }, async () => {
    setTimeout(forget, 100);
    return text('forgotten');
  });
  return server;
}

function legacy() {
  const sessions = new Map();
  const ends = {
    async ask({ sendRequest }) {
      const params = { mode: 'form', message: 'Who is there?', requestedSchema: QUESTION };
      const answer = await sendRequest({ method: 'elicitation/create', params }, z.object({}).passthrough());
      return text(answer.action === 'accept' ? `Hello, ${answer.content.name}!` : answer.action);
    },
    async notify({ _meta, sendNotification }, progress) {
      if (_meta?.progressToken === undefined) return;
      const params = { progressToken: _meta.progressToken, progress, total: 3 };
      await sendNotification({ method: 'notifications/progress', params });
    },
    changed: (server) => server.sendToolListChanged(),
    forget: () => sessions.clear(),
  };
  return async (request, response) => {
    const known = sessions.get(request.headers['mcp-session-id']);
    if (known) return known.handleRequest(request, response);
    if (request.headers['mcp-session-id']) return response.writeHead(404).end();
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
    });
    await withTools(new McpServer(INFO, OPTIONS), ends).connect(transport);
    await transport.handleRequest(request, response);
  };
}

function modern() {
  let handler;
  const ends = {
    async ask({ mcpReq }) {
      const answer = next.acceptedContent(mcpReq.inputResponses, 'who');
      if (answer) return text(`Hello, ${answer.name}!`);
      const who = next.inputRequired.elicit({ message: 'Who is there?', requestedSchema: QUESTION });
      return next.inputRequired({ inputRequests: { who }, requestState: 'asked' });
    },
    async notify({ mcpReq }, progress) {
      const token = mcpReq._meta?.progressToken;
      if (token === undefined) return;
      const params = { progressToken: token, progress, total: 3 };
      await mcpReq.notify({ method: 'notifications/progress', params });
    },
    changed: () => handler.notify.toolsChanged(),
    forget: () => {},
  };
  handler = next.createMcpHandler(() => withTools(new next.McpServer(INFO, OPTIONS), ends), { legacy: 'reject' });
  return async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, headers } = request;
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    const body = method === 'POST' ? Buffer.concat(chunks) : undefined;
    const url = `http://${headers.host}${request.url}`;
    const answer = await handler.fetch(new Request(url, { method, headers, body, signal: gone.signal }));
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    for await (const chunk of answer.body ?? []) response.write(chunk);
    response.end();
  };
}

const serve = process.argv[2] === 'modern' ? modern() : legacy();
const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
