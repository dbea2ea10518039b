// The official TypeScript client, in the mode given: lists, calls, meets errors, and prints what it saw as JSON.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { use } from './typescript_use.mjs';

const [url, mode] = process.argv.slice(2);
const versionNegotiation = { mode: mode === 'auto' || mode === 'legacy' ? mode : { pin: mode } };
const client = new Client({ name: 'interop', version: '1.0.0' }, { versionNegotiation });
await use(client, new StreamableHTTPClientTransport(new URL(url)), () => client.getNegotiatedProtocolVersion());
