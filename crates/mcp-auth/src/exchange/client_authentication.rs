//! Client authentication at the token endpoint: `client_secret_basic` (RFC 6749, section 2.3.1) or `private_key_jwt`
//! (RFC 7523).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    rand::{self, SystemRandom},
    rsa::KeyPair,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use mcp_https::{Bytes, HeaderValue, RequestBuilder, header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ExchangeConfig, ExchangeError, config::Method};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_SECONDS: u64 = 60;

/// The form-encoded parameters of a request. Their memory is overwritten when the form is dropped.
pub(crate) struct Form(Zeroizing<Vec<u8>>);

impl Form {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let mut form = Self(Zeroizing::default());
        for (name, value) in pairs {
            form.push(name, value);
        }
        form
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(encoded(name).as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(encoded(value).as_bytes());
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl ExchangeConfig {
    /// Adds the client authentication to a request or to its form.
    pub(crate) fn authenticate(
        &self,
        request: RequestBuilder,
        form: &mut Form,
        secret: &str,
        issuer: &str,
        now: SystemTime,
    ) -> Result<RequestBuilder, ExchangeError> {
        match &self.method {
            Method::SecretBasic => {
                let pair = Zeroizing::new(format!("{}:{}", *encoded(&self.client_id), *encoded(secret)));
                let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)));
                let mut value =
                    HeaderValue::try_from(value.as_str()).map_err(|_| ExchangeError::Secret("it is too long"))?;
                value.set_sensitive(true);
                Ok(request.header(header::AUTHORIZATION, value))
            }
            Method::PrivateKeyJwt { key_id, audience } => {
                let audience = audience.as_deref().unwrap_or(issuer);
                let assertion = assertion(secret, &self.client_id, audience, key_id.as_deref(), now)?;
                form.push("client_id", &self.client_id);
                form.push("client_assertion_type", JWT_BEARER);
                form.push("client_assertion", &assertion);
                Ok(request)
            }
        }
    }
}

/// Percent-encodes all characters except unreserved ones. The result is valid in a form, too.
fn encoded(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Builds a client assertion: a JWT signed with an RSA or P-256 key in PKCS#8 (PEM). It is valid for a minute.
fn assertion(
    pem: &str,
    client_id: &str,
    audience: &str,
    key_id: Option<&str>,
    now: SystemTime,
) -> Result<String, ExchangeError> {
    let der = der(pem).ok_or(ExchangeError::Secret("it is not a private key in PEM (PKCS#8)"))?;
    let random = SystemRandom::new();
    let failed = |_| ExchangeError::Secret("the key cannot sign");
    // `jti`: distinguishes assertions of the same second. It is not a secret.
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(failed)?;
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": audience, "jti": BASE64_URL_SAFE_NO_PAD.encode(id),
        "iat": issued, "exp": issued + ASSERTION_SECONDS,
    });
    let message = |algorithm: &str| {
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(key_id) = key_id {
            header["kid"] = Value::from(key_id);
        }
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(&header), part(&claims))
    };
    let (message, signature) = if let Ok(key) = KeyPair::from_pkcs8(&der) {
        let message = message("RS256");
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).map_err(failed)?;
        (message, signature)
    } else {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
            .map_err(|_| ExchangeError::Secret("it is neither an RSA key nor one of the curve P-256"))?;
        let message = message("ES256");
        let signature = key.sign(&random, message.as_bytes()).map_err(failed)?.as_ref().to_vec();
        (message, signature)
    };
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// Decodes the private key of a PEM text.
fn der(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|character| !character.is_whitespace()).collect());
    BASE64_STANDARD.decode(&*body).ok().map(Zeroizing::new)
}
