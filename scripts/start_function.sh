# What `cargo run` starts functions with during `make dev`. Each gets its URL, of which the watcher takes the path away, and
# has the database of its name, so that the migrations of one are not in the way of another's.
name="$(basename "$1")"
export MCP_PUBLIC_URL="${MCP_PUBLIC_URL:-$DEV_URL/$name}"
[ -z "$DEV_DATABASE_SERVER" ] || export DATABASE_URL="$DEV_DATABASE_SERVER/$name"
exec "$@"
