//! A tool that reports progress, and stops when the call is cancelled. It searches the files of a Lambda layer.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use garde::Validate;
use mcp_lambda::{CancellationToken, HandlerError, HttpConfig, InitError, Json, McpService, Server, Tool, ToolContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct SearchArgs {
    /// Text that the lines contain; 1 to 100 characters.
    #[garde(length(chars, min = 1, max = 100))]
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Found {
    /// The first 100 lines that contain the text.
    lines: Vec<String>,
}

async fn search_files(context: ToolContext<Vec<PathBuf>>, args: SearchArgs) -> Result<Json<Found>, HandlerError> {
    let files = context.state();
    let mut lines = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let (path, text, cancellation) = (file.clone(), args.text.clone(), context.cancellation().clone());
        lines.extend(spawn_blocking(move || search(&path, &text, &cancellation)).await??);
        // A cancelled call ends at its next `.await`, such as this one.
        context.progress(index + 1, files.len(), file.to_str()).await;
    }
    lines.truncate(100);
    Ok(Json(Found { lines }))
}

/// The end of the call does not stop another thread: it must check `cancellation`.
fn search(path: &Path, text: &str, cancellation: &CancellationToken) -> io::Result<Vec<String>> {
    let lines = BufReader::new(File::open(path)?).lines();
    let lines = lines.take_while(|_| !cancellation.is_cancelled());
    lines.filter(|line| line.as_ref().map_or(true, |line| line.contains(text))).take(100).collect()
}

async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let files = fs::read_dir("/opt/files").and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let files = files.map_err(|error| InitError::new("could not list /opt/files").with_source(error))?;
    let tool = Tool::new("search_files", search_files).description("Finds lines in files.").read_only();
    McpService::new(Server::new("files", "1.0.0", files).tool(tool), config)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}

#[cfg(test)]
mod tests {
    use mcp_testing::TestCall;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn files(count: usize) -> (TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..count).map(|number| folder.path().join(format!("{number}.log"))).collect();
        for (number, file) in files.iter().enumerate() {
            fs::write(file, format!("started {number}\nerror {number}\n")).unwrap();
        }
        (folder, files)
    }

    fn call(files: Vec<PathBuf>) -> TestCall<Vec<PathBuf>> {
        TestCall::new(Tool::new("search_files", search_files)).state(files).arguments(json!({ "text": "error" }))
    }

    #[tokio::test]
    async fn progress_counts_each_file() {
        let (_folder, files) = files(3);

        let reply = call(files).await;

        assert_eq!(reply.structured(), json!({ "lines": ["error 0", "error 1", "error 2"] }));
        assert_eq!(reply.progress(), [1.0, 2.0, 3.0]);
    }

    #[tokio::test]
    async fn a_cancelled_call_stops_reading_files() {
        let (folder, files) = files(5);
        // Opening it would fail the call.
        fs::remove_file(folder.path().join("3.log")).unwrap();

        let reply = call(files).cancel_after(2).await;

        assert!(reply.is_cancelled());
        assert_eq!(reply.progress(), [1.0, 2.0]);
    }

    #[tokio::test]
    async fn a_cancelled_search_stops_reading_lines() {
        let (_folder, files) = files(1);
        let cancellation = CancellationToken::new();
        assert_eq!(search(&files[0], "error", &cancellation).unwrap().len(), 1);

        cancellation.cancel();

        assert!(search(&files[0], "error", &cancellation).unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_unreadable_file_is_a_logged_internal_fault() {
        let (folder, files) = files(1);
        fs::remove_file(folder.path().join("0.log")).unwrap();

        let reply = call(files).await;

        assert!(!reply.text().contains("No such file"), "{}", reply.text());
        assert!(reply.fault().unwrap().contains("No such file"));
    }
}
