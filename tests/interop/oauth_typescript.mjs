// An official TypeScript client uses event-logger, and signs in when it is asked to. Prints what it saw as JSON.
//
//     node oauth_typescript.mjs URL MODE [TOKEN]
//
// MODE is `sdk` (the first generation), `auto`, `legacy` or `2026-07-28`. With TOKEN, which has the scope `events:read`,
// the client is signed in already.

import * as next from '@modelcontextprotocol/client';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { provider } from './typescript_oauth.mjs';

const [url, mode, token] = process.argv.slice(2);
const REDIRECT_URI = 'http://127.0.0.1:9/callback';
const sdk = mode === 'sdk' ? { Client, StreamableHTTPClientTransport, UnauthorizedError } : next;

const requests = [];
let answer;
const tokens = token && { access_token: token, token_type: 'Bearer', scope: 'events:read' };
const authProvider = provider(REDIRECT_URI, redirect, { tokens });

// Sends the browser to the issuer.
async function redirect(request) {
  const query = request.searchParams;
  const [scope, resource, pkce] = ['scope', 'resource', 'code_challenge_method'].map((name) => query.get(name));
  requests.push({ scope, resource, pkce });
  answer = await follow(request);
}

const transport = () => new sdk.StreamableHTTPClientTransport(new URL(url), { authProvider });
const negotiation = { versionNegotiation: { mode: mode === 'auto' || mode === 'legacy' ? mode : { pin: mode } } };
const client = new sdk.Client({ name: 'interop', version: '1.0.0' }, mode === 'sdk' ? {} : negotiation);

// The SDKs end what they were doing when they have sent the user away; an application does it again when the user is
// back.
async function signingIn(attempt, finish) {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof sdk.UnauthorizedError)) throw error;
    await finish(answer.get('code'), answer.get('iss') ?? undefined);
    return await attempt();
  }
}

async function connect() {
  await signingIn(
    () => client.connect(transport()),
    // A transport that failed to start is not started again.
    (...words) => transport().finishAuth(...words),
  );
}

const finishAuth = (...words) => client.transport.finishAuth(...words);

async function call(name, argumentsOfTool) {
  const seen = requests.length;
  try {
    const result = await signingIn(() => client.callTool({ name, arguments: argumentsOfTool }), finishAuth);
    return { text: result.content[0].text, isError: result.isError ?? false, asked: requests.slice(seen) };
  } catch (error) {
    const said = { error: error.constructor.name, message: error.message, status: error.status ?? error.code };
    return { ...said, asked: requests.slice(seen) };
  }
}

const saw = {};
try {
  await connect();
  const { tools } = await signingIn(() => client.listTools(), finishAuth);
  saw.listed = { tools: tools.map((tool) => tool.name), asked: requests.slice() };
  saw.latest = await call('get_latest_events', { limit: 1 });
  saw.logged = await call('log_event', { event_name: 'login' });
  saw.again = await call('log_event', { event_name: 'logout' });
  await client.close();
} catch (error) {
  saw.failed = { error: error.constructor.name, message: error.message, status: error.status ?? error.code };
}
console.log(JSON.stringify(saw));

// Acts as the browser: from an authorization request to the redirect URI. Returns the query there.
async function follow(start) {
  const cookies = new Map();
  for (let next = new URL(start), hops = 0; hops < 10; hops += 1) {
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ');
    const page = await fetch(next, { redirect: 'manual', headers: { cookie } });
    for (const [pair] of page.headers.getSetCookie().map((line) => line.split(';'))) {
      cookies.set(pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1));
    }
    const location = page.headers.get('location');
    if (!location) throw new Error(`a page instead of a redirect: ${await page.text()}`);
    next = new URL(location, next);
    if (next.href.startsWith(REDIRECT_URI)) return next.searchParams;
  }
  throw new Error('it redirects for ever');
}
