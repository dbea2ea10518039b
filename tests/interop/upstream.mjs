// An OpenID provider on loopback with the quirks of a hosted one, for a confidential client: the upstream of an authorization server.
//
//     node upstream.mjs --kind cognito|entra|google [--redirect-uri URL]... [--accounts JSON] [--port PORT] [--until-stdin-closes]
//
// Prints one line: {"issuer": "http://..."}. The client is `upstream-client`, its secret `upstream-secret`. A redirect URI on loopback
// may have any port. Every account exists, and every password is right. `--accounts` has the groups and roles of accounts:
// {"ada": {"groups": ["writers"], "roles": []}}.
//
// POST /control with {"blocked": ["ada"]} ends the grants of these accounts, and {"status": 503} makes the token endpoint fail.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import Provider, { interactionPolicy } from 'oidc-provider';

const { values: options } = parseArgs({
  options: {
    kind: { type: 'string' },
    port: { type: 'string', default: '0' },
    'redirect-uri': { type: 'string', multiple: true, default: ['http://127.0.0.1/callback'] },
    accounts: { type: 'string', default: '{}' },
    'until-stdin-closes': { type: 'boolean', default: false },
  },
});

const CLIENT = 'upstream-client';
const SECRET = 'upstream-secret';
const TENANT = '72f988bf-0000-4000-8000-2d7cd011db47';
const POOL = 'us-east-1_Example01';
// Above this number Entra replaces the claim `groups` by a reference to its directory.
const MAX_ENTRA_GROUPS = 200;

const groupsOf = JSON.parse(options.accounts);
const control = { blocked: [], status: undefined };
// Accounts that have signed in: the names by subject, and the subjects that asked for `access_type=offline`.
const names = new Map();
const offline = new Set();

// What differs between the providers. A metadata document has what the provider itself publishes, and nothing else.
const KINDS = {
  cognito: {
    path: `/${POOL}`,
    routes: {
      authorization: '/oauth2/authorize', token: '/oauth2/token', jwks: `/${POOL}/.well-known/jwks.json`,
      userinfo: '/oauth2/userInfo', revocation: '/oauth2/revoke',
    },
    metadata: {
      response_types_supported: ['code', 'token'],
      subject_types_supported: ['public'],
      token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    },
    // No `offline_access`: a request with it is `invalid_scope`.
    scopes: ['openid', 'email', 'phone', 'profile'],
    rotates: false,
    keyMembers: ['kty', 'e', 'n', 'kid', 'use', 'alg'],
    subject: uuid,
    claims: (name) => ({
      token_use: 'id', 'cognito:username': name, email: mail(name), email_verified: true, ...named('cognito:groups', name, 'groups'),
    }),
    accessToken: (payload, name) => ({
      sub: payload.sub, iss: payload.iss, client_id: payload.client_id, token_use: 'access', version: 2, scope: payload.scope,
      auth_time: payload.iat, iat: payload.iat, exp: payload.exp, jti: payload.jti, username: name,
      ...named('cognito:groups', name, 'groups'),
    }),
    steps: [{ fields: { username: 'Username', password: 'Password' }, button: 'Sign in' }],
  },
  entra: {
    path: `/${TENANT}/v2.0`,
    routes: {
      authorization: `/${TENANT}/oauth2/v2.0/authorize`, token: `/${TENANT}/oauth2/v2.0/token`,
      jwks: `/${TENANT}/discovery/v2.0/keys`, userinfo: '/oidc/userinfo', revocation: '/unused',
    },
    metadata: {
      token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
      response_modes_supported: ['query', 'fragment', 'form_post'],
      subject_types_supported: ['pairwise'],
      response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
      request_uri_parameter_supported: false,
      http_logout_supported: true,
      frontchannel_logout_supported: true,
      tenant_region_scope: 'WW',
      cloud_instance_name: 'microsoftonline.com',
    },
    scopes: ['openid', 'profile', 'email', 'offline_access'],
    rotates: true,
    // Its keys have no `alg`.
    keyMembers: ['kty', 'use', 'kid', 'n', 'e'],
    subject: (name) => createHash('sha256').update(name).digest('base64url'),
    claims: (name) => ({
      tid: TENANT, oid: uuid(name), ver: '2.0', name, preferred_username: mail(name), ...entraGroups(name), ...named('roles', name),
    }),
    accessToken: (payload, name) => ({
      iss: payload.iss, sub: payload.sub, aud: payload.client_id, azp: payload.client_id, azpacr: '1', tid: TENANT, oid: uuid(name),
      ver: '2.0', scp: payload.scope, iat: payload.iat, nbf: payload.iat, exp: payload.exp, ...entraGroups(name), ...named('roles', name),
    }),
    steps: [
      { fields: { username: 'Enter your email, phone, or Skype' }, button: 'Next' },
      { fields: { password: 'Password' }, button: 'Sign in' },
      { fields: {}, text: 'Stay signed in?', button: 'Yes' },
    ],
  },
  google: {
    path: '',
    routes: {
      authorization: '/o/oauth2/v2/auth', token: '/token', jwks: '/oauth2/v3/certs', userinfo: '/v1/userinfo', revocation: '/revoke',
    },
    metadata: {
      response_types_supported: ['code', 'token', 'id_token', 'code token', 'code id_token', 'token id_token', 'code token id_token'],
      response_modes_supported: ['query', 'fragment', 'form_post'],
      subject_types_supported: ['public'],
      token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
      code_challenge_methods_supported: ['plain', 'S256'],
      grant_types_supported: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    },
    // No `offline_access`: refresh tokens are requested by `access_type=offline` and `prompt=consent`.
    scopes: ['openid', 'email', 'profile'],
    rotates: false,
    keyMembers: ['kty', 'use', 'alg', 'kid', 'n', 'e'],
    subject: (name) => String(BigInt(`0x${createHash('sha256').update(name).digest('hex').slice(0, 16)}`)),
    claims: (name) => ({
      azp: CLIENT, email: mail(name), email_verified: true, name, ...(name.includes('@') ? {} : { hd: 'example.com' }),
    }),
    // Its access tokens are opaque.
    accessToken: undefined,
    steps: [
      { fields: { username: 'Email or phone' }, button: 'Next' },
      { fields: { password: 'Enter your password' }, button: 'Next' },
      { fields: {}, text: 'upstream-client wants access to your account', button: 'Continue' },
    ],
  },
};
const kind = KINDS[options.kind];
if (!kind) throw new Error(`--kind is ${Object.keys(KINDS).join(', ')}`);

console.info = console.warn = () => {};

const server = createServer();
server.listen(Number(options.port), '127.0.0.1');
await once(server, 'listening');
const origin = `http://127.0.0.1:${server.address().port}`;
const issuer = `${origin}${kind.path}`;
const key = { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'k1' };
const provider = new Provider(issuer, configuration());
for (const event of ['authorization.error', 'grant.error', 'server_error']) {
  provider.on(event, (_, error) => console.error(`upstream: ${event}: ${event === 'server_error' ? error.stack : error.error_description}`));
}
const answer = provider.callback();
server.on('request', (request, response) => {
  respond(request, response).catch((error) => {
    console.error(`upstream: ${error.stack}`);
    response.writeHead(400, { 'content-type': 'text/plain' });
    response.end('This sign-in has ended.\n');
  });
});
const end = () => process.exit(0);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end);
if (options['until-stdin-closes']) process.stdin.once('end', end).once('error', end).resume();
console.log(JSON.stringify({ issuer }));

async function respond(request, response) {
  const { pathname, searchParams } = new URL(request.url, origin);
  if (pathname === '/control') {
    Object.assign(control, JSON.parse(await text(request)));
    return json(response, 200, control);
  }
  if (pathname === `${kind.path}/.well-known/openid-configuration`) return json(response, 200, metadata());
  if (pathname === kind.routes.jwks) {
    return json(response, 200, { keys: [Object.fromEntries(kind.keyMembers.map((member) => [member, key[member]]))] });
  }
  // RFC 8414 documents included: none of these providers has one.
  if (pathname.includes('/.well-known/')) return json(response, 404, { error: 'not found' });
  if (pathname === kind.routes.token && control.status) return json(response, control.status, { error: 'server_error' });
  if (pathname.startsWith('/interaction/')) return interact(request, response);
  const unknown = (searchParams.get('scope') ?? '').split(' ').filter((scope) => scope && !kind.scopes.includes(scope));
  if (pathname === kind.routes.authorization && unknown.length) {
    const error = new URLSearchParams({ error: 'invalid_scope', state: searchParams.get('state') ?? '' });
    response.writeHead(302, { location: `${searchParams.get('redirect_uri')}?${error}` });
    return response.end();
  }
  // Entra takes `offline_access` without a prompt, which the package ignores then.
  if (pathname === kind.routes.authorization && options.kind === 'entra') {
    searchParams.set('prompt', [...new Set([...(searchParams.get('prompt') ?? '').split(' ').filter(Boolean), 'consent'])].join(' '));
    request.url = `${pathname}?${searchParams}`;
  }
  return answer(request, response);
}

function metadata() {
  const endpoint = (route) => `${origin}${kind.routes[route]}`;
  return {
    issuer,
    authorization_endpoint: endpoint('authorization'),
    token_endpoint: endpoint('token'),
    jwks_uri: endpoint('jwks'),
    userinfo_endpoint: endpoint('userinfo'),
    ...(options.kind === 'entra' ? {} : { revocation_endpoint: endpoint('revocation') }),
    id_token_signing_alg_values_supported: ['RS256'],
    scopes_supported: kind.scopes,
    ...kind.metadata,
  };
}

function configuration() {
  const policy = interactionPolicy.base();
  // The client is native for its loopback ports alone: a person who is signed in sees no page.
  policy.get('consent').checks.remove('native_client_prompt');
  policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }));
  return {
    jwks: { keys: [key] },
    clients: [{
      client_id: CLIENT, client_secret: SECRET, redirect_uris: options['redirect-uri'], application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    routes: kind.routes,
    scopes: ['openid', 'email', 'profile', 'phone', 'offline_access'],
    claims: { openid: ['sub', ...Object.keys(kind.claims('ada')), 'groups', 'roles', 'cognito:groups', '_claim_names', '_claim_sources'] },
    conformIdTokenClaims: false,
    pkce: { required: () => false },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    interactions: { policy },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: kind.accessToken !== undefined,
        defaultResource: () => `${origin}/userinfo`,
        useGrantedResource: () => true,
        getResourceServerInfo: ({ oidc: { params, entities } }) => ({
          scope: params.scope ?? entities.AuthorizationCode?.scope ?? entities.RefreshToken?.scope ?? '', audience: CLIENT, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    formats: { customizers: { jwt: dress } },
    findAccount: (_, accountId) => {
      const name = names.get(accountId);
      if (!name || control.blocked.includes(name)) return undefined;
      return { accountId, claims: () => ({ sub: accountId, ...kind.claims(name) }) };
    },
    issueRefreshToken: (_, __, code) =>
      options.kind === 'cognito' || code.scopes.has('offline_access')
        || (options.kind === 'google' && offline.has(code.accountId)),
    rotateRefreshToken: kind.rotates,
    expiresWithSession: () => false,
    loadExistingGrant: grantAsRequested,
    extraParams: ['access_type', 'hd'],
  };
}

// Replaces an access token's claims. Cognito's token has no `aud`, which the package insists on: it is there, and not serialized.
async function dress(_, token, parts) {
  const scope = token.scope ?? '';
  const claims = kind.accessToken({ ...parts.payload, scope }, names.get(token.accountId));
  if (!claims.aud) Object.defineProperty(claims, 'aud', { value: CLIENT, enumerable: false, writable: true });
  parts.payload = claims;
  parts.header = { typ: options.kind === 'entra' ? 'JWT' : undefined };
}

async function grantAsRequested({ oidc }) {
  const { client, session, params, resourceServers } = oidc;
  if (params.access_type === 'offline') offline.add(session.accountId);
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope ?? '');
  for (const resource of Object.keys(resourceServers ?? {})) grant.addResourceScope(resource, params.scope ?? '');
  await grant.save();
  return grant;
}

// The pages of the provider, one after the other. What was entered travels in hidden fields.
async function interact(request, response) {
  await provider.interactionDetails(request, response);
  const form = new URLSearchParams(request.method === 'POST' ? await text(request) : '');
  if (form.has('cancel')) return provider.interactionFinished(request, response, { error: 'access_denied' });
  const next = Number(form.get('next') ?? 0);
  const name = form.get('username')?.replace(/@example\.com$/, '');
  if (next < kind.steps.length) {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
    return response.end(page(kind.steps[next], next + 1, name));
  }
  const accountId = kind.subject(name);
  names.set(accountId, name);
  return provider.interactionFinished(request, response, { login: { accountId }, consent: {}, select_account: {} });
}

function page({ fields, text: words = 'Sign in', button }, next, name) {
  const inputs = Object.entries(fields).map(([field, label]) =>
    `<label>${label} <input name="${field}" type="${field === 'password' ? 'password' : 'text'}" required></label>`);
  const hidden = name && !fields.username ? `<input type="hidden" name="username" value="${escape(name)}">` : '';
  return `<!doctype html><html lang="en"><title>${options.kind}</title><h1>${words}</h1>
<form method="post">${inputs.join('')}${hidden}<input type="hidden" name="next" value="${next}"><button>${button}</button></form>
<form method="post"><button name="cancel" value="1">Cancel</button></form></html>\n`;
}

function named(claim, name, member = claim) {
  const values = groupsOf[name]?.[member] ?? [];
  return values.length ? { [claim]: values } : {};
}

function entraGroups(name) {
  const groups = named('groups', name);
  if (!groups.groups || groups.groups.length <= MAX_ENTRA_GROUPS) return groups;
  return {
    _claim_names: { groups: 'src1' },
    _claim_sources: { src1: { endpoint: `https://graph.windows.net/${TENANT}/users/${uuid(name)}/getMemberObjects` } },
  };
}

function mail(name) {
  return name.includes('@') ? name : `${name}@example.com`;
}

function uuid(name) {
  return createHash('sha256').update(name).digest('hex').replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, '$1-$2-4$3-8$4-$5');
}

function escape(words) {
  return String(words).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

async function text(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body;
}

function json(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
