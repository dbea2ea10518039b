//! The binary with `MCP_ROLE=migrate`.

use std::process::{Command, Stdio};

use mcp_testing::{BackendKind, TestBackend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_of_the_store_are_created_in_each_kind_of_database() {
    for kind in [BackendKind::Postgres, BackendKind::Dsql] {
        let backend = TestBackend::create(kind).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_authorization-server"));
        command.env_clear().env("MCP_ROLE", "migrate").envs(backend.variables()).stdout(Stdio::piped());

        let output = tokio::task::block_in_place(|| command.output().unwrap());

        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("the schema is up to date"), "{kind:?}: {text}");
        assert_eq!(text.lines().last(), Some(r#"{"applied":[],"already_applied":0}"#), "{kind:?}");
    }
}
