// An OpenID provider on loopback, for development and tests: every user is accepted by the name that they enter.
//
//     node issuer.mjs [--port PORT] [--resource URL]... [--sign-in NAME] [--algorithm RS256|ES256]
//                     [--register-only] [--access-token-seconds N] [--data FILE] [--until-stdin-closes]
//                     [--exchange-client METADATA]
//
// Listens on 127.0.0.1 alone (port 0, the default, is a free one) and then prints one line: {"issuer": "http://..."}.
// Ends on SIGINT and SIGTERM, and when its standard input ends if told so: then it ends with its parent process.
//
// Clients register themselves or are metadata documents; an authorization code needs PKCE. A token for a resource is a
// JWT (RFC 9068) with that audience and with all scopes that were requested, of any name. Without `--data`
// each start has new keys, and no clients.
//
// Node looks for `oidc-provider` from where this file lies: copy it next to the `node_modules` that has the package.

import { createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import Provider, { errors } from 'oidc-provider';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    // Resources beyond loopback that tokens are issued for; the first also serves clients that name none.
    resource: { type: 'string', multiple: true, default: [] },
    // Every request is signed in, and consented to, under this name: there is no page.
    'sign-in': { type: 'string' },
    // What tokens are signed with. Keys for both are published.
    algorithm: { type: 'string', default: 'RS256' },
    // Clients are no metadata documents, which an issuer without internet cannot fetch: they register.
    'register-only': { type: 'boolean', default: false },
    'access-token-seconds': { type: 'string', default: '3600' },
    // Where keys, clients, sessions and grants are kept between starts.
    data: { type: 'string' },
    'until-stdin-closes': { type: 'boolean', default: false },
    // A client that may exchange access tokens of this issuer for others (RFC 8693), by its metadata (RFC 7591) in JSON.
    'exchange-client': { type: 'string' },
  },
});
if (!['RS256', 'ES256'].includes(options.algorithm)) throw new Error('--algorithm is RS256 or ES256');

const RESOURCE_SCOPES = ['events:read', 'events:write'];
const SCOPES = ['openid', 'email', 'profile', 'offline_access', ...RESOURCE_SCOPES];
const HOUR = 3600;
const DAY = 24 * HOUR;
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const ACCESS_TOKEN_SECONDS = Number(options['access-token-seconds']);
// What fits into an e-mail address and a page as it is.
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

// The package advises, some of it on standard output, to replace what a provider in production must replace.
console.info = console.warn = () => {};

const data = { entries: {}, ...(options.data && existsSync(options.data) ? JSON.parse(readFileSync(options.data)) : {}) };
data.keys ??= keys();
data.cookie ??= randomBytes(32).toString('hex');

// What the provider keeps, in a file that is written at each change.
class FileAdapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    data.entries[this.key(id)] = { payload, end: expiresIn && Date.now() + expiresIn * 1000 };
    save();
  }

  async find(id) {
    const entry = data.entries[this.key(id)];
    return entry && isKept(entry) ? entry.payload : undefined;
  }

  async findByUid(uid) {
    const own = Object.entries(data.entries).find(([key, { payload }]) => key.startsWith('Session:') && payload.uid === uid);
    return own?.[1].payload;
  }

  async consume(id) {
    data.entries[this.key(id)].payload.consumed = Math.floor(Date.now() / 1000);
    save();
  }

  async destroy(id) {
    delete data.entries[this.key(id)];
    save();
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of Object.entries(data.entries)) {
      if (payload.grantId === grantId) delete data.entries[key];
    }
    save();
  }
}

const server = createServer();
server.listen(Number(options.port), '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration());
if (options['exchange-client']) {
  const parameters = ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'audience', 'scope'];
  provider.registerGrantType(EXCHANGE, exchange, parameters);
}
for (const event of ['authorization.error', 'grant.error', 'registration_create.error', 'server_error']) {
  provider.on(event, (_, error) => {
    // The client gets OAuth's error code; the log has the details.
    const words = [error.message, error.error_description, error.error_detail].filter(Boolean).join(': ');
    console.error(`issuer: ${event}: ${event === 'server_error' ? error.stack : words}`);
  });
}
const answer = provider.callback();
server.on('request', (request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response);
  interact(request, response).catch((error) => {
    console.error(`issuer: ${error.stack}`);
    response.writeHead(400, { 'content-type': 'text/plain' });
    response.end('This sign-in has ended. Start again at the client.\n');
  });
});

// What is asked already is answered: a refresh token is used up by a request whose answer is lost.
const end = () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
  setTimeout(() => process.exit(0), 2000);
};
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end);
if (options['until-stdin-closes']) process.stdin.once('end', end).once('error', end).resume();

console.log(JSON.stringify({ issuer }));

function configuration() {
  return {
    ...(options.data ? { adapter: FileAdapter } : {}),
    jwks: { keys: data.keys },
    clients: options['exchange-client'] ? [exchangeClient(options['exchange-client'])] : [],
    responseTypes: ['code'],
    clientDefaults: { id_token_signed_response_alg: options.algorithm },
    scopes: SCOPES,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    // ID tokens name the user as well, so that a server which accepts one as an access token would serve that user.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: [data.cookie] },
    ttl: { AccessToken: ACCESS_TOKEN_SECONDS, IdToken: HOUR, Interaction: HOUR, Session: DAY, Grant: DAY, RefreshToken: DAY },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true, issueRegistrationAccessToken: false, idFactory: registered },
      clientIdMetadataDocument: { enabled: !options['register-only'], ack: 'draft-02' },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => oneOf ?? options.resource[0],
        // A client that names the resource in its first request alone means the same one in the second.
        useGrantedResource: () => true,
        getResourceServerInfo: ({ oidc }, resource) => resourceServer(resource, oidc),
      },
    },
    extraTokenClaims: (_, { accountId }) => claims(accountId),
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId, ...claims(accountId) }) }),
    // A client that may refresh does not need `offline_access`, nor a browser that is still signed in.
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    loadExistingGrant: grantAsRequested,
  };
}

function isKept({ end }) {
  return !end || end > Date.now();
}

function save() {
  data.entries = Object.fromEntries(Object.entries(data.entries).filter(([, entry]) => isKept(entry)));
  writeFileSync(`${options.data}.new`, JSON.stringify(data));
  renameSync(`${options.data}.new`, options.data);
}

function keys() {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = ({ privateKey }, alg) => ({ ...privateKey.export({ format: 'jwk' }), alg, use: 'sig' });
  // Their ids are thumbprints, so that no two starts share one.
  return [jwk(rsa, 'RS256'), jwk(ec, 'ES256')];
}

function claims(name) {
  return { email: `${name}@example.com`, email_verified: true, name };
}

// A new client's id.
function registered(context) {
  // Some clients register the scopes of their first request, which would keep them from ever asking for more.
  delete context.oidc.body.scope;
  return randomBytes(16).toString('hex');
}

function resourceServer(resource, { params, entities }) {
  const url = new URL(resource);
  const isLoopback = url.protocol === 'http:' && ['127.0.0.1', 'localhost'].includes(url.hostname);
  if (!isLoopback && !options.resource.includes(resource)) {
    throw new errors.InvalidTarget(`${resource} is neither on loopback nor given as --resource`);
  }
  return {
    scope: [params.scope, entities.AuthorizationCode?.scope, entities.RefreshToken?.scope].filter(Boolean).join(' '),
    audience: resource,
    accessTokenFormat: 'jwt',
    accessTokenTTL: ACCESS_TOKEN_SECONDS,
    jwt: { sign: { alg: options.algorithm } },
  };
}

// The client that exchanges tokens, and does nothing else.
function exchangeClient(metadata) {
  return { ...JSON.parse(metadata), grant_types: [EXCHANGE], response_types: [], redirect_uris: [] };
}

// A token for another resource, for the user of an access token; it has the scopes that were requested.
async function exchange(context) {
  const { client, params } = context.oidc;
  if (params.subject_token_type !== ACCESS_TOKEN || (params.requested_token_type ?? ACCESS_TOKEN) !== ACCESS_TOKEN) {
    throw new errors.InvalidRequest('access tokens alone are exchanged, for access tokens');
  }
  if (typeof params.resource !== 'string') throw new errors.InvalidTarget('the exchange is for one resource');
  const token = new provider.AccessToken({ accountId: subjectOf(params.subject_token), client, gty: EXCHANGE });
  token.resourceServer = new provider.ResourceServer(params.resource, resourceServer(params.resource, context.oidc));
  token.scope = params.scope;
  context.body = {
    access_token: await token.save(), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer',
    expires_in: token.expiration, ...(params.scope ? { scope: params.scope } : {}),
  };
}

// The user of an access token of this issuer, once its signature is verified.
function subjectOf(token) {
  const parts = String(token).split('.');
  const [header, claims] = parts.slice(0, 2).map(decoded);
  const jwk = data.keys.find(({ alg }) => alg === header?.alg);
  const key = jwk && { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
  const isOwn = parts.length === 3 && key
    && verify('sha256', Buffer.from(`${parts[0]}.${parts[1]}`), key, Buffer.from(parts[2], 'base64url'));
  if (!isOwn || header.typ !== 'at+jwt' || claims?.iss !== issuer || !(claims.exp > Date.now() / 1000)) {
    throw new errors.InvalidRequest('the subject token is not a valid access token of this issuer');
  }
  return claims.sub;
}

function decoded(part) {
  try {
    return JSON.parse(Buffer.from(part, 'base64url'));
  } catch {
    return undefined;
  }
}

// The policy: exactly what is asked for, nothing that was granted before.
async function grantAsRequested(context) {
  const { client, session, params, resourceServers } = context.oidc;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope ?? '');
  for (const resource of Object.keys(resourceServers ?? {})) grant.addResourceScope(resource, params.scope ?? '');
  await grant.save();
  return grant;
}

// Signs a user in: at once if a name was given, else with the name from the form.
async function interact(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const name = options['sign-in'] ?? (request.method === 'POST' ? (await form(request)).get('name') : undefined);
  if (!NAME.test(name ?? '')) {
    const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    const html = await page(params, name);
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy });
    return response.end(html);
  }
  // An empty consent says that there was one; what was granted is decided by `grantAsRequested`.
  await provider.interactionFinished(request, response, { login: { accountId: name }, consent: {} });
}

async function form(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 10_000) throw new Error('the form is too large');
  }
  return new URLSearchParams(body);
}

async function page({ client_id: clientId, redirect_uri: redirectUri, scope, resource }, refused) {
  const client = await provider.Client.find(clientId);
  return `<!doctype html>
<html lang="en">
<title>Sign in (development)</title>
<style>body { font: 1.1rem/1.5 system-ui; max-width: 34rem; margin: 3rem auto } code { word-break: break-all }</style>
<h1>Sign in</h1>
<p>This issuer is for development. There are no accounts and no passwords: <strong>any name will do</strong>.</p>
<p><code>${escape(client?.clientName ?? clientId)}</code> asks for <code>${escape(scope ?? 'no scopes')}</code>
  at <code>${escape(resource ?? 'no resource')}</code>. It is answered at <code>${escape(redirectUri)}</code>.</p>
${refused === undefined ? '' : '<p role="alert">A name has letters, digits, dots, hyphens and underscores.</p>'}
<form method="post">
  <label>Name <input name="name" value="ada" required autofocus maxlength="64"></label>
  <button>Sign in and allow</button>
</form>
`;
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
