// The part of an application that the TypeScript SDKs leave to it: what is kept of a sign-in.

// An OAuth client provider with everything in memory. `redirect` gets the authorization URL; `tokens` are there from the start.
export function provider(redirectUrl, redirect, { tokens, clientMetadataUrl } = {}) {
  const kept = { tokens };
  return {
    redirectUrl,
    clientMetadataUrl,
    clientMetadata: {
      client_name: 'interop',
      redirect_uris: [redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => void (kept.client = client),
    tokens: () => kept.tokens,
    saveTokens: (tokens) => void (kept.tokens = tokens),
    codeVerifier: () => kept.verifier,
    saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
    discoveryState: () => kept.discovery,
    saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
    redirectToAuthorization: redirect,
  };
}
