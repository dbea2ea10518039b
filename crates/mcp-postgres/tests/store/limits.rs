//! Rate limits that several environments share, on Postgres.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mcp_postgres::PostgresStore;
use mcp_protocol::{ProtocolVersion, RequestParams, method};
use mcp_server::{BuiltServer, Invocation, Principal, RateLimit, Server, Settings};
use mcp_testing::TestDatabase;
use sqlx::{Executor, Row};

use crate::harness::config;

const LIMIT: u32 = 200;

async fn served(environment: &BuiltServer, caller: &Arc<Invocation>) -> usize {
    let (mut served, params) = (0, RequestParams::default());
    let request = environment.resolve(ProtocolVersion::LATEST, method::TOOLS_LIST, params, caller);
    while request.count(None).await.is_ok() {
        served += 1;
    }
    served
}

#[tokio::test]
async fn environments_never_serve_more_than_the_limit_and_their_blocks() {
    let test = TestDatabase::create().await;
    for (block, environments) in [(1, 1), (1, 5), (5, 5), (20, 5)] {
        // A database that is slow here must not make an environment count by itself.
        let limit = RateLimit::per_caller(LIMIT, Duration::from_secs(3600)).block(block).fail_closed();
        let environment = |_| {
            let store = PostgresStore::new(config(&test, "on", 1));
            let settings = Settings { state_key: Some(mcp_testing::state_key()), ..Settings::default() };
            Server::new("limited", "1.0.0", ()).limit(limit).store(store).build(settings).unwrap()
        };
        let environments: Vec<_> = (0..environments).map(environment).collect();
        let caller = Principal::new("https://issuer.example", format!("ada {block} {}", environments.len()));
        let caller = Arc::new(Invocation { principal: Some(Arc::new(caller)), ..Invocation::default() });

        let served: usize = join_all(environments.iter().map(|own| served(own, &caller))).await.into_iter().sum();

        let (limit, blocks) = (LIMIT as usize, block as usize * environments.len());
        assert!(served <= limit + blocks, "{served} with {blocks}");
        assert!(served > 0);
    }
    let rows = "SELECT (SELECT count(*) FROM mcp.counters) + (SELECT count(*) FROM mcp.state)";
    assert_eq!(test.connect().await.fetch_one(rows).await.unwrap().get::<i64, _>(0), 4, "one counter for each caller");
}
