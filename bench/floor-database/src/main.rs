//! Baseline of event-logger's benchmark: the same runtime, profile, Postgres and statement, one connection that is
//! opened at startup, and a response that is constant except for the event's number.

use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use serde::{Serialize, de::IgnoredAny};
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::Mutex;

/// Statement of event-logger for a call without an idempotency key.
const INSERT: &str = r#"
    INSERT INTO events (event_name, issuer, subject, email, idempotency_key)
    VALUES ($1, $2, $3, $4, coalesce('client:' || $5, 'call:' || md5($6)))
    ON CONFLICT (issuer, subject, idempotency_key) DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, event_name, "timestamp", issuer, subject, email,
        xmax = 0 AS is_new, "timestamp" < now() - interval '30 days' AS is_expired
"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LambdaResponse {
    status_code: u16,
    body: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let connection = Mutex::new(PgConnection::connect(&std::env::var("DATABASE_URL")?).await?);
    let connection = &connection;
    let insert = async |event: LambdaEvent<IgnoredAny>| {
        let row = sqlx::query(INSERT)
            .bind("login")
            .bind("")
            .bind("")
            .bind("")
            .bind(None::<&str>)
            .bind(event.context.request_id)
            .fetch_one(&mut *connection.lock().await)
            .await?;
        let id: i64 = row.try_get("id")?;
        let text = format!("Event {id} logged.");
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#);
        Ok::<_, Error>(LambdaResponse { status_code: 200, body })
    };
    Runtime::new(service_fn(insert)).run().await
}
