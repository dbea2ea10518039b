// The first generation of the official TypeScript SDK: lists, calls, meets errors, and prints what it saw as JSON.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { use } from './typescript_use.mjs';

const [url] = process.argv.slice(2);
const client = new Client({ name: 'interop', version: '1.0.0' });
const transport = new StreamableHTTPClientTransport(new URL(url));
await use(client, transport, () => transport.protocolVersion);
