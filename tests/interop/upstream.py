"""`upstream.mjs`, running: an OpenID provider with the quirks of Amazon Cognito, Microsoft Entra or Google, for a confidential client."""

import json

import issuer
import tools
from oauth import fetch

CLIENT_ID = "upstream-client"
CLIENT_SECRET = "upstream-secret"
KINDS = ("cognito", "entra", "google")


class Upstream(issuer.Issuer):
    """`accounts` has the groups and roles by the name of the account. `redirect_uri` may have any port in a request."""

    script = tools.INTEROP / "upstream.mjs"

    def __init__(self, kind, accounts=None, redirect_uri="http://127.0.0.1/callback", **options):
        super().__init__(kind=kind, accounts=json.dumps(accounts or {}), redirect_uri=redirect_uri, **options)
        self.kind = kind

    @property
    def origin(self):
        return "/".join(self.url.split("/")[:3])

    def metadata(self):
        return fetch(f"{self.url}/.well-known/openid-configuration")

    def block(self, *names):
        """Ends the grants of these accounts, and of no others: a refresh is `invalid_grant`."""
        fetch(f"{self.origin}/control", json.dumps({"blocked": names}), "application/json")

    def fail(self, status):
        """Makes the token endpoint answer with a status; `None` ends it."""
        fetch(f"{self.origin}/control", json.dumps({"status": status}), "application/json")
