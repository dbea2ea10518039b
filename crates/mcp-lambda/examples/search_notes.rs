//! A search in Postgres with paginated results. `DATABASE_URL` is the URL of the database.

use std::process::ExitCode;

use garde::Validate;
use mcp_lambda::{
    Cursor, HandlerError, HttpConfig, InitError, Json, McpService, Server, Tool, ToolContext,
    postgres::{Database, DatabaseConfig},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, migrate::Migrator};

static MIGRATOR: Migrator = sqlx::migrate!("examples/migrations");
const PAGE_SIZE: usize = 20;
const SEARCH: &str = "SELECT id, text FROM notes
    WHERE to_tsvector('simple', text) @@ websearch_to_tsquery('simple', $1) AND id < $2 ORDER BY id DESC LIMIT $3";

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct SearchArgs {
    /// Words that the notes contain; 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200))]
    query: String,
    /// `next_cursor` of the previous page. Omit it for the first page.
    #[garde(skip)]
    cursor: Option<Cursor<i64>>,
}

#[derive(Serialize, JsonSchema)]
struct Page {
    /// At most 20 notes, the newest first.
    notes: Vec<Note>,
    /// Where the next page begins; `null` on the last page.
    next_cursor: Option<Cursor<i64>>,
}

#[derive(Serialize, JsonSchema, FromRow)]
struct Note {
    id: i64,
    text: String,
}

async fn search_notes(context: ToolContext<Database>, args: SearchArgs) -> Result<Json<Page>, HandlerError> {
    let before = args.cursor.map_or(i64::MAX, |Cursor(id)| id);
    // One row more than the page size shows whether there is a next page.
    let page = context.state().read(&context, async |mut connection| {
        let query = sqlx::query_as(SEARCH).bind(&args.query).bind(before).bind(PAGE_SIZE as i64 + 1);
        Ok(query.fetch_all(&mut *connection).await?)
    });
    let mut notes: Vec<Note> = page.await?;
    let next_cursor = Cursor::next_page(&mut notes, PAGE_SIZE, |note| note.id);
    Ok(Json(Page { notes, next_cursor }))
}

async fn service((http, database): (HttpConfig, DatabaseConfig)) -> Result<McpService, InitError> {
    let database = Database::open(database, &MIGRATOR).await;
    let tool = Tool::new("search_notes", search_notes).description("Finds notes by words.").read_only();
    McpService::new(Server::new("notes", "1.0.0", database.clone()).manages(database).tool(tool), http)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}

#[cfg(test)]
mod tests {
    use mcp_testing::{TestCall, TestDatabase, TestReply};
    use serde_json::{Value, json};
    use sqlx::Executor;

    use super::*;

    async fn open(test: &TestDatabase) -> Database {
        let config = DatabaseConfig::from_env(|name| (name == "DATABASE_URL").then_some(test.url())).unwrap();
        Database::open(config, &MIGRATOR).await
    }

    async fn search(database: &Database, query: &str, cursor: &Value) -> TestReply {
        let tool = Tool::new("search_notes", search_notes);
        TestCall::new(tool).state(database.clone()).arguments(json!({ "query": query, "cursor": cursor })).await
    }

    #[tokio::test]
    async fn pages_list_each_note_once_newest_first() {
        let test = TestDatabase::create().await;
        let database = open(&test).await;
        let notes = "INSERT INTO notes (text) SELECT 'Buy milk, ' || n FROM generate_series(1, 45) n;
            INSERT INTO notes (text) VALUES ('Buy bread')";
        test.connect().await.execute(notes).await.unwrap();

        let (mut cursor, mut ids, mut sizes) = (Value::Null, Vec::new(), Vec::new());
        loop {
            let page = search(&database, "milk", &cursor).await.structured();
            let notes = page["notes"].as_array().unwrap();
            ids.extend(notes.iter().map(|note| note["id"].as_i64().unwrap()));
            sizes.push(notes.len());
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }

        assert_eq!(sizes, [20, 20, 5]);
        assert_eq!(ids, (1..=45).rev().collect::<Vec<i64>>());
    }

    #[tokio::test]
    async fn the_last_page_may_be_full_or_empty() {
        let test = TestDatabase::create().await;
        let database = open(&test).await;
        let notes = "INSERT INTO notes (text) SELECT 'Buy milk' FROM generate_series(1, 20)";
        test.connect().await.execute(notes).await.unwrap();

        let (full, empty) =
            (search(&database, "milk", &Value::Null).await, search(&database, "tea", &Value::Null).await);

        assert_eq!(full.structured()["notes"].as_array().unwrap().len(), 20);
        assert_eq!(full.structured()["next_cursor"], Value::Null);
        assert_eq!(empty.structured(), json!({ "notes": [], "next_cursor": null }));
    }

    #[tokio::test]
    async fn an_invalid_cursor_is_rejected_with_a_remedy() {
        let test = TestDatabase::create().await;
        let database = open(&test).await;

        let reply = search(&database, "milk", &json!("page 2")).await;

        assert_eq!(reply.result().is_error, Some(true));
        assert!(reply.text().contains("`cursor`: the cursor is invalid: start without a cursor"), "{}", reply.text());
    }
}
