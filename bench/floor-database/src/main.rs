//! Baseline of event-logger's benchmark: the same runtime, profile, Postgres and statement, one connection that is
//! opened at startup, and a response that is constant except for the event's number.

use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use serde::{Serialize, de::IgnoredAny};
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::Mutex;

/// Statement of event-logger (tests/interop/test_bench.py compares them).
const INSERT: &str = r#"
    INSERT INTO events (key, event_name, issuer, subject, email, idempotency_key)
    VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING
    RETURNING id, event_name, "timestamp", issuer, subject, email
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
            .bind(event.context.request_id)
            .bind("login")
            .bind("")
            .bind("")
            .bind("")
            .bind(None::<&str>)
            .fetch_one(&mut *connection.lock().await)
            .await?;
        let id: i64 = row.try_get("id")?;
        let text = format!("Event {id} logged.");
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#);
        Ok::<_, Error>(LambdaResponse { status_code: 200, body })
    };
    Runtime::new(service_fn(insert)).run().await
}
