# What `cargo run` starts functions with during `make dev`: each has the database of its name, so that the migrations of one
# are not in the way of another's.
DATABASE_URL="$DATABASE_SERVER/$(basename "$1")" exec "$@"
