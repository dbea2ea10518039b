//! Random values.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("could not get random numbers")]
pub(crate) struct RandomError;

/// Returns random bytes. AWS-LC reseeds its generator after a snapshot is restored.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// Returns `N` random bytes as Base64url.
pub(crate) fn text<const N: usize>() -> Result<String, RandomError> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes::<N>()?))
}
