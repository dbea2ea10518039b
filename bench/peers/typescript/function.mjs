// The greeter with the TypeScript SDK: its handler for web requests, called with the request of the event.

import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { z } from 'zod';

const mcp = createMcpHandler(() => {
  const server = new McpServer({ name: 'greeter', version: '1.0.0' });
  server.registerTool(
    'personalized_greeting',
    { description: 'Generates a friendly greeting for a name.', inputSchema: z.object({ name: z.string() }) },
    async ({ name }) => ({
      content: [{ type: 'text', text: `Hello, ${name}! Welcome to the serverless MCP world.` }],
    }),
  );
  return server;
});

export async function handler(event) {
  const { method, path } = event.requestContext.http;
  const url = `https://${event.requestContext.domainName}${path}`;
  const body = event.isBase64Encoded ? Buffer.from(event.body, 'base64') : event.body;
  const response = await mcp.fetch(new Request(url, { method, headers: event.headers, body }));
  return {
    statusCode: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
  };
}
