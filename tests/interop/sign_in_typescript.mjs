// An official TypeScript client signs in to event-logger, and logs an event. The program that BROWSER names opens the authorization URL.
// Prints the text of the result.
//
//     node sign_in_typescript.mjs URL GENERATION [DOCUMENT]
//
// GENERATION is `1` or `2`. With the URL of a metadata document the client has one, for any port of its redirect URI.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import * as next from '@modelcontextprotocol/client';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { provider } from './typescript_oauth.mjs';

const [url, generation, clientMetadataUrl] = process.argv.slice(2);
const sdk = generation === '1' ? { Client, StreamableHTTPClientTransport, UnauthorizedError } : next;

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const redirectUrl = `http://127.0.0.1:${server.address().port}/callback`;
const callback = once(server, 'request');

const authProvider = provider(redirectUrl, (request) => void spawn(process.env.BROWSER, [request.href], { stdio: 'ignore' }), { clientMetadataUrl });
const transport = new sdk.StreamableHTTPClientTransport(new URL(url), { authProvider });
const client = new sdk.Client({ name: 'interop', version: '1.0.0' });
const call = () => client.callTool({ name: 'log_event', arguments: { event_name: 'signed in' } });

await client.connect(transport);
const result = await call().catch(async (error) => {
  if (!(error instanceof sdk.UnauthorizedError)) throw error;
  const [request, response] = await callback;
  response.end('signed in');
  const answer = new URL(request.url, redirectUrl).searchParams;
  await transport.finishAuth(answer.get('code'), answer.get('iss') ?? undefined);
  return call();
});
console.log(result.content[0].text);
await client.close();
server.close();
server.closeAllConnections();
