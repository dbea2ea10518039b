//! Hostile tokens, which every service must reject.

use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use mcp_lambda::McpService;
use serde_json::{Value, json};

use crate::{
    IssuerResponse, McpRequest, TestIssuer, TestKey, exchange,
    issuer::{now, sign},
    keys::base64,
};

/// Token that must be rejected.
#[derive(Debug, Clone)]
pub struct HostileToken {
    /// Defect of the token.
    pub flaw: &'static str,
    /// Compact serialization.
    pub token: String,
}

impl TestIssuer {
    /// Asserts that a service that trusts this issuer rejects each hostile token with 401. `request` must succeed with
    /// a valid token. Returns the number of tokens.
    ///
    /// ```no_run
    /// # use mcp_lambda::McpService;
    /// # async fn example(service: McpService, issuer: mcp_testing::TestIssuer) {
    /// let count = issuer.assert_rejected(&service, &mcp_testing::tools_list()).await;
    /// # let _ = count;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a token is accepted.
    pub async fn assert_rejected(&self, service: &McpService, request: &McpRequest) -> usize {
        let good = exchange(service, request.clone().bearer(&self.token(["events:read", "events:write"]))).await;
        assert_eq!(
            good.status, 200,
            "a valid token must be accepted, otherwise the test is meaningless: {}",
            good.body
        );
        let tokens = self.hostile_tokens();
        for HostileToken { flaw, token } in &tokens {
            let reply = exchange(service, request.clone().bearer(token)).await;

            assert_eq!(reply.status, 401, "{flaw}: {}", reply.body);
            let challenge = reply.headers["www-authenticate"].to_str().expect("text");
            assert!(challenge.contains("error=\"invalid_token\""), "{flaw}: {challenge}");
        }
        assert_eq!(self.requests(ELSEWHERE), 0, "a token must not select the URL of its keys");
        tokens.len()
    }

    /// Returns tokens with one defect each. Without the defect, each would be valid for the service of [`exchange`].
    pub fn hostile_tokens(&self) -> Vec<HostileToken> {
        let mut tokens = Vec::new();
        let mut add = |flaw: &'static str, token: String| tokens.push(HostileToken { flaw, token });
        let scopes = ["events:read", "events:write"];
        let good = self.token(scopes);
        let claim = |name: &'static str, value: Value| self.mint(scopes, |_, claims| claims[name] = value);
        let without =
            |name: &str| self.mint(scopes, |_, claims| drop(claims.as_object_mut().expect("an object").remove(name)));
        let header = |name: &'static str, value: Value| self.mint(scopes, |header, _| header[name] = value);

        // Algorithms.
        for (flaw, spelling) in [
            ("alg none", "none"),
            ("alg None", "None"),
            ("alg NONE", "NONE"),
            ("alg nOnE", "nOnE"),
            ("alg none with a space", "none "),
            ("an empty alg", ""),
        ] {
            let unsigned = header("alg", json!(spelling));
            add(flaw, unsigned.clone());
            add(flaw, format!("{}.", unsigned.rsplit_once('.').expect("three parts").0));
        }
        add("no alg", self.mint(scopes, |header, _| drop(header.as_object_mut().expect("an object").remove("alg"))));
        add("an alg that is a list", header("alg", json!(["RS256"])));
        add("an alg that is null", header("alg", json!(null)));
        add("an alg in lower case", header("alg", json!("rs256")));
        for (flaw, algorithm) in [("HMAC with the public key", "HS256"), ("a longer HMAC with the public key", "HS512")]
        {
            let message = header("alg", json!(algorithm));
            let message = message.rsplit_once('.').expect("three parts").0;
            for forged in TestKey::rsa().hmacs_with_public_key(algorithm, message.as_bytes()) {
                add(flaw, format!("{message}.{}", base64(forged)));
            }
        }
        add("an alg other than that of the signature", header("alg", json!("ES256")));
        add("PKCS #1 padding declared as PSS", {
            let signed = self.token(scopes);
            let (_, rest) = signed.split_once('.').expect("three parts");
            format!("{}.{rest}", base64(json!({ "alg": "PS256", "kid": "rsa", "typ": "JWT" }).to_string()))
        });

        // Signatures.
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        add("no signature", format!("{message}."));
        add("the signature of another message", {
            let other = self.mint(scopes, |_, claims| claims["sub"] = json!("bob"));
            format!("{message}.{}", other.rsplit_once('.').expect("three parts").1)
        });
        add("a truncated signature", format!("{message}.{}", &signature[..signature.len() - 4]));
        add("a signature of zeros", format!("{message}.{}", base64([0; 256])));
        let elliptic = |signature: &[u8]| {
            let message =
                self.mint(scopes, |header, _| (header["alg"], header["kid"]) = (json!("ES256"), json!("p256")));
            format!("{}.{}", message.rsplit_once('.').expect("three parts").0, base64(signature))
        };
        add("ES256 with r and s of zero", elliptic(&[0; 64]));
        add("ES256 with an empty signature of the right form", elliptic(&[]));
        add("ES256 with the order of the curve", elliptic(&P256_ORDER_TWICE));
        add("ES256 in DER", elliptic(&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01]));
        let resigned = |header: Value, key: &TestKey| {
            let (_, rest) = good.split_once('.').expect("three parts");
            let claims = base64_decoded(rest.split_once('.').expect("three parts").0);
            sign(&header.to_string(), &claims, key)
        };
        add(
            "a foreign key with the issuer's key id",
            resigned(json!({ "alg": "RS256", "kid": "rsa" }), TestKey::other_rsa()),
        );
        add("a foreign key without a key id", resigned(json!({ "alg": "RS256" }), TestKey::other_rsa()));
        add(
            "a foreign key with an unknown key id",
            resigned(json!({ "alg": "RS256", "kid": "x" }), TestKey::other_rsa()),
        );
        add("a foreign P-256 key", resigned(json!({ "alg": "ES256", "kid": "p256" }), TestKey::other_p256()));
        add("a key of the wrong curve", resigned(json!({ "alg": "ES256", "kid": "p256" }), TestKey::p384()));
        add("a key of the wrong type", resigned(json!({ "alg": "EdDSA", "kid": "rsa" }), TestKey::ed25519()));
        let own_key = TestKey::other_rsa().jwk("own");
        add(
            "a key in the header",
            resigned(json!({ "alg": "RS256", "kid": "own", "jwk": own_key }), TestKey::other_rsa()),
        );
        let elsewhere = format!("{}{ELSEWHERE}", self.origin());
        self.set_response(ELSEWHERE, IssuerResponse::json(&json!({ "keys": [TestKey::other_rsa().jwk("own")] })));
        add("jku", resigned(json!({ "alg": "RS256", "kid": "own", "jku": elsewhere }), TestKey::other_rsa()));
        add("x5u", resigned(json!({ "alg": "RS256", "kid": "own", "x5u": elsewhere }), TestKey::other_rsa()));
        add(
            "a key id that is a path",
            resigned(json!({ "alg": "RS256", "kid": "../../dev/null" }), TestKey::other_rsa()),
        );

        // Headers.
        add("crit", header("crit", json!(["exp"])));
        add("an empty crit", header("crit", json!([])));
        add("b64 false", header("b64", json!(false)));
        add(
            "b64 false and critical",
            self.mint(scopes, |header, _| {
                (header["b64"], header["crit"]) = (json!(false), json!(["b64"]));
            }),
        );
        add("the typ of a logout token", header("typ", json!("logout+jwt")));
        add("the typ of a proof of possession", header("typ", json!("dpop+jwt")));
        add("a typ that is not a string", header("typ", json!(["JWT"])));
        add("a kid that is not a string", header("kid", json!(7)));

        // Issuers.
        add("no iss", without("iss"));
        add("another issuer", claim("iss", json!("https://issuer.example")));
        add("iss as a list", claim("iss", json!([self.issuer()])));
        add("iss with an extra slash", claim("iss", json!(format!("{}//", self.issuer()))));
        add("iss in upper case", claim("iss", json!(self.issuer().to_uppercase())));
        add("iss as null", claim("iss", json!(null)));
        add("iss as an object", claim("iss", json!({ "value": self.issuer() })));

        // Audiences.
        let needs_audience = self.token_has_audience();
        if needs_audience {
            add("no aud", without("aud"));
        }
        add("another audience", claim("aud", json!("https://other.example/mcp")));
        add("a list of other audiences", claim("aud", json!(["https://other.example", "https://third.example"])));
        add("an empty list of audiences", claim("aud", json!([])));
        add("an audience among other types", claim("aud", json!([crate::TEST_AUDIENCE, 7])));
        add("an audience that is an object", claim("aud", json!({ "0": crate::TEST_AUDIENCE })));
        add("an audience that is a number", claim("aud", json!(1)));
        add("an audience that begins with the right one", claim("aud", json!(format!("{}/x", crate::TEST_AUDIENCE))));
        add("an audience without scheme", claim("aud", json!("abcdefghij.lambda-url.eu-west-1.on.aws/mcp")));
        add("a wildcard audience", claim("aud", json!("*")));

        // Times.
        add("no exp", without("exp"));
        add("expired", claim("exp", json!(now() - 1)));
        add("expired long ago", claim("exp", json!(0)));
        add("exp as text", claim("exp", json!((now() + 3600).to_string())));
        add("exp as null", claim("exp", json!(null)));
        add("a negative exp", claim("exp", json!(-1)));
        add("an exp out of range", claim("exp", json!(1e300)));
        add("nbf in the future", claim("nbf", json!(now() + 3600)));
        add("nbf as text", claim("nbf", json!("0")));
        add("iat in the future", claim("iat", json!(now() + 3600)));
        add("iat as a list", claim("iat", json!([0])));

        // Subjects and kinds.
        add("no sub", without("sub"));
        add("an empty sub", claim("sub", json!("")));
        add("sub as a number", claim("sub", json!(1)));
        add("cnf", claim("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" })));
        add("a logout token", claim("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })));
        add("a refresh token of Keycloak", claim("typ", json!("Refresh")));
        add("a token for another use", claim("token_use", json!("refresh")));
        if !self.accepts_id_tokens() {
            add("an ID token", self.id_token());
            let marked = |name: &'static str| {
                self.mint(scopes, |header, claims| {
                    (header["typ"], claims[name]) = (json!("JWT"), json!("x"));
                    // Keycloak declares the type of each token.
                    claims.as_object_mut().expect("an object").remove("typ");
                })
            };
            add("an ID token by its nonce", marked("nonce"));
            add("an ID token by its at_hash", marked("at_hash"));
        }

        // Encodings.
        let (head, claims) = message.split_once('.').expect("two parts");
        add("an extra part", format!("{good}.x"));
        add("five parts, as encryption has", format!("{head}..{claims}.{signature}.x"));
        add("two parts", message.to_owned());
        add("padding", format!("{message}.{signature}="));
        add("padding in the header", {
            let json = json!({ "alg": "RS256", "kid": "rsa", "x": 1 }).to_string();
            let padded = format!("{}.{claims}", BASE64_URL_SAFE.encode(format!("{json} ")));
            format!("{padded}.{}", base64(TestKey::rsa().sign("RS256", padded.as_bytes())))
        });
        add("the standard Base64 alphabet", {
            // Some signatures contain a character that differs between the alphabets.
            let signed = (0..).map(|number| claim("jti", json!(number)));
            let differs = |token: &String| token.rsplit_once('.').expect("three parts").1.contains(['-', '_']);
            let token = signed.into_iter().find(differs).expect("an infinite iterator");
            let (message, signature) = token.rsplit_once('.').expect("three parts");
            format!("{message}.{}", signature.replace('-', "+").replace('_', "/"))
        });
        add("an unused bit that is set", {
            // The last of the two final characters of 256 bytes has four unused bits.
            let last = signature.chars().last().expect("a character");
            let next = char::from(last as u8 + 1);
            format!("{message}.{}{next}", &signature[..signature.len() - 1])
        });
        let written = |header: &str, claims: &str| sign(header, claims, TestKey::rsa());
        let good_claims = base64_decoded(claims);
        let good_header = base64_decoded(head);
        add("a duplicate alg", written(&good_header.replacen('{', r#"{"alg":"none","#, 1), &good_claims));
        add("a duplicate claim", written(&good_header, &good_claims.replacen('{', r#"{"sub":"mallory","#, 1)));
        add("a duplicate claim with an escape", {
            written(&good_header, &good_claims.replacen('{', r#"{"\u0073ub":"mallory","#, 1))
        });
        add("claims that are a list", written(&good_header, &format!("[{good_claims}]")));
        add("claims with trailing data", written(&good_header, &format!("{good_claims}{{}}")));
        add("claims that are not JSON", written(&good_header, "ada"));
        add("no claims", written(&good_header, ""));
        add("a header that is not JSON", written("RS256", &good_claims));
        add("claims that are not UTF-8", {
            let message = format!("{head}.{}", base64([b'{', 0xff, b'}']));
            format!("{message}.{}", base64(TestKey::rsa().sign("RS256", message.as_bytes())))
        });
        add("more than 8 KiB", claim("padding", json!("x".repeat(8 * 1024))));
        add("one character", "x".to_owned());
        add("only dots", "..".to_owned());
        add("garbage", "ya29.a0AfH6SMBx".to_owned());
        tokens
    }

    fn token_has_audience(&self) -> bool {
        let token = self.token([]);
        let claims = token.split('.').nth(1).expect("three parts");
        base64_decoded(claims).contains("\"aud\"")
    }

    fn accepts_id_tokens(&self) -> bool {
        self.issuer().starts_with("https://accounts.google.com") || self.issuer().starts_with("https://cognito-idp.")
    }
}

/// Path of keys that a token refers to.
const ELSEWHERE: &str = "/elsewhere";

/// Signature whose `r` and `s` are the order of P-256, which is zero modulo the order.
const P256_ORDER_TWICE: [u8; 64] = {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut both = [0; 64];
    let mut index = 0;
    while index < 64 {
        both[index] = ORDER[index % 32];
        index += 1;
    }
    both
};

fn base64_decoded(part: &str) -> String {
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).expect("Base64");
    String::from_utf8(bytes).expect("text")
}
