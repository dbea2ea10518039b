use std::time::Duration;

use mcp_server::{RateLimit, Server};

fn main() {
    let _ = Server::new("limited", "1.0.0", ()).limit(RateLimit::per_caller(120, Duration::from_secs(60)));
}
