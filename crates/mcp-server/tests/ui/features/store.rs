use mcp_server::{Server, store::MemoryStore};

fn main() {
    let _ = Server::new("stored", "1.0.0", ()).store(MemoryStore::new());
}
