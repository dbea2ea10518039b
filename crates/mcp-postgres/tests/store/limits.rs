//! Rate limits that several environments share, on Postgres.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use mcp_postgres::PostgresStore;
use mcp_protocol::{ProtocolVersion, RequestParams, method};
use mcp_server::{BuiltServer, Invocation, Principal, RateLimit, Server, Settings};
use mcp_testing::TestDatabase;
use sqlx::{Executor, Row};

use crate::harness::config;

const LIMIT: u32 = 200;

/// Counts requests of a caller until the store has no more of them, and at most `most`. Returns how many were served, and how often the store
/// did not reply in time: each time, a block may be lost.
async fn served(environment: &BuiltServer, subject: &str, most: usize) -> (usize, usize) {
    let (mut served, mut lost, mut received) = (0, 0, SystemTime::now());
    while served < most {
        let caller = Some(Arc::new(Principal::new("https://issuer.example", subject)));
        let invocation = Arc::new(Invocation { principal: caller, received, ..Invocation::default() });
        let params = RequestParams::default();
        let request = environment.resolve(ProtocolVersion::LATEST, method::TOOLS_LIST, params, &invocation);
        match request.count(None).await {
            Ok(()) => served += 1,
            Err(limited) if limited.is_unavailable => {
                lost += 1;
                assert!(lost < 100, "the store never replies in time");
                // After the cooldown.
                received += limited.retry_after;
            }
            Err(_) => break,
        }
    }
    (served, lost)
}

#[tokio::test]
async fn environments_never_serve_more_than_the_limit_and_their_blocks() {
    let test = TestDatabase::create().await;
    let counts = [1, 5, 20];
    for (block, environments) in counts.into_iter().flat_map(|block| counts.map(|environments| (block, environments))) {
        // A database that is slow here must not make an environment count by itself.
        let limit = RateLimit::per_caller(LIMIT, Duration::from_secs(3600)).block(block).fail_closed();
        let environment = |_| {
            let store = PostgresStore::new(config(&test, "on", 1));
            let settings = Settings { state_key: Some(mcp_testing::state_key()), ..Settings::default() };
            Server::new("limited", "1.0.0", ()).limit(limit).store(store).build(settings).unwrap()
        };
        let environments: Vec<_> = (0..environments).map(environment).collect();
        for own in &environments {
            // Connects.
            served(own, "bob", 1).await;
        }
        let ada = format!("ada {block} {}", environments.len());

        let counts = join_all(environments.iter().map(|own| served(own, &ada, usize::MAX))).await;

        let (served, lost) = counts.iter().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        let (limit, blocks) = (LIMIT as usize, block as usize * environments.len());
        assert!(served <= limit + blocks, "{served} with {blocks}");
        let least = (limit * 99 / 100).saturating_sub(block as usize * lost);
        assert!(served >= least, "{served} with block {block}, {} environments, {lost} lost", environments.len());
        if block == 1 {
            assert!(served <= limit * 101 / 100, "{served} of {} environments", environments.len());
        }
    }
    let rows = "SELECT (SELECT count(*) FROM mcp.counters) + (SELECT count(*) FROM mcp.state)";
    assert_eq!(test.connect().await.fetch_one(rows).await.unwrap().get::<i64, _>(0), 10, "one counter for each caller");
}
