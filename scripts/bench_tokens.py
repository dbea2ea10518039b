"""Tokens for `scripts/bench.py`: an issuer on loopback, and files of events that carry its tokens.

    python3 scripts/bench_tokens.py EVENT FOLDER COUNT

Writes FOLDER/<algorithm>-seen.jsonl, one event, and FOLDER/<algorithm>-new.jsonl, COUNT events of as many callers. Prints
the issuer's URL when they are written, and serves its keys until standard input ends. Runs on the Python of the tools
folder, which has PyJWT.
"""

import http.server
import json
import pathlib
import sys
import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ALGORITHMS = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}


def main(event_file, folder, count):
    event = json.loads(pathlib.Path(event_file).read_text())
    private = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
    documents = {}
    issuer = serve(documents)
    keys = [
        {**ALGORITHMS[name].to_jwk(key.public_key(), as_dict=True), "kid": name, "alg": name, "use": "sig"}
        for name, key in private.items()
    ]
    documents["/keys"] = {"keys": keys}
    documents["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}

    def with_token(name, subject):
        now = int(time.time())
        claims = {
            "iss": issuer, "aud": f"https://{event['requestContext']['domainName']}/mcp", "sub": subject, "iat": now,
            "exp": now + 24 * 3600, "client_id": "bench", "scope": "openid email profile", "email": "ada@example.com",
            "email_verified": True, "name": "Ada Lovelace",
        }
        token = jwt.encode(claims, private[name], name, {"kid": name, "typ": "at+jwt"})
        return json.dumps({**event, "headers": {**event["headers"], "authorization": f"Bearer {token}"}})

    for name in ALGORITHMS:
        (pathlib.Path(folder) / f"{name}-seen.jsonl").write_text(with_token(name, "ada"))
        lines = [with_token(name, f"caller {number}") for number in range(int(count))]
        (pathlib.Path(folder) / f"{name}-new.jsonl").write_text("\n".join(lines))
    print(issuer, flush=True)
    sys.stdin.read()


def serve(documents):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(documents[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


if __name__ == "__main__":
    main(*sys.argv[1:])
