//! Commands of the operator: events of direct invocations (docs/authorization-server.md).

use std::{sync::Arc, time::SystemTime};

use mcp_authorization_server::{AuthorizationServer, KeyRing};
use mcp_aws::StoredSecret;
use mcp_lambda::{BoxError, transport::Invocation};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::TOKEN_LIFETIME;

/// The member of an event that has a command.
pub(crate) const NAME: &str = "mcpAuthorizationServer";

#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
enum Command {
    /// Revokes all grants.
    RevokeAll {},
    /// Deletes the rows of a person.
    DeletePerson {
        /// URL of this server.
        server: String,
        /// Issuer of the identity provider.
        issuer: String,
        /// Identifier of the person at the identity provider.
        subject: String,
    },
    /// Adds a signing key, which signs an hour later.
    RotateKeys {},
    /// Replaces all signing keys at once.
    ReplaceKeys {},
}

/// Runs a command. Returns what it has done: `{"deleted":3,"left":0}`, `{"rotated":true}`, or `{"revoked":true}`.
pub(crate) async fn run(
    server: Arc<AuthorizationServer>,
    keys: Option<Arc<StoredSecret>>,
    command: Value,
    invocation: Invocation,
) -> Result<Value, BoxError> {
    let request_id = &invocation.request_id;
    let now = SystemTime::now();
    match serde_json::from_value(command)? {
        Command::RevokeAll {} => {
            server.revoke_all(now).await?;
            tracing::warn!(request_id, "all grants were revoked");
            Ok(json!({ "revoked": true }))
        }
        Command::DeletePerson { server: own, issuer, subject } => {
            let deleted = server.delete_person(&own, (&issuer, &subject)).await?;
            tracing::info!(request_id, deleted, "the rows of a person were deleted");
            Ok(json!({ "deleted": deleted, "left": 0 }))
        }
        Command::RotateKeys {} => {
            let secret = stored(keys)?;
            let current = secret.current(invocation.answer_by()).await?;
            let next = KeyRing::rotate(current.as_str(), TOKEN_LIFETIME, now)?;
            write(&secret, next, &invocation).await
        }
        Command::ReplaceKeys {} => write(&*stored(keys)?, Some(KeyRing::replace(now)?), &invocation).await,
    }
}

fn stored(keys: Option<Arc<StoredSecret>>) -> Result<Arc<StoredSecret>, BoxError> {
    keys.ok_or_else(|| "the signing keys are in a variable, not in a secret: replace the variable".into())
}

/// Writes the secret. `None`: a key waits to sign already.
async fn write(secret: &StoredSecret, next: Option<String>, invocation: &Invocation) -> Result<Value, BoxError> {
    let Some(next) = next else { return Ok(json!({ "rotated": false })) };
    secret.put(&next, &invocation.request_id, invocation.answer_by()).await?;
    tracing::warn!(request_id = invocation.request_id, "the signing keys were changed");
    Ok(json!({ "rotated": true }))
}
