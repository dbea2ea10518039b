"""The part of an application that the Python SDK leaves to it: what is kept of a sign-in."""

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from oauth import REDIRECT_URI


def provider(url, redirect, answered, tokens=None, document=None):
    """Signs a client in to a server: `redirect` gets the authorization URL, `answered` returns the query of the redirect URI."""

    async def callback():
        query = answered()
        return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])

    metadata = OAuthClientMetadata(client_name="interop", redirect_uris=[REDIRECT_URI], token_endpoint_auth_method="none")
    return OAuthClientProvider(url, metadata, Memory(tokens), redirect, callback, client_metadata_url=document)


class Memory:
    """Tokens and registration of a client, in memory."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client
