//! Hand-written schemas, compiled with the feature `raw-schema`.

use serde_json::Value;

mod check;
#[cfg(feature = "raw-schema")]
mod validator;

pub(crate) use check::Check;

/// Compiles a hand-written schema.
#[derive(Debug, Clone, Copy)]
pub struct Compile(pub(crate) fn(&Value) -> Result<Check, String>);

/// Implemented for every type if the crate is built with the feature `raw-schema`, for none without it.
#[diagnostic::on_unimplemented(
    message = "`Tool::raw` needs the feature `raw-schema` of `mcp-lambda`",
    label = "this tool has a hand-written schema",
    note = "add `features = [\"raw-schema\"]` to `mcp-lambda` in Cargo.toml"
)]
pub trait RawSchemaFeature {
    fn compile() -> Compile;
}

#[cfg(feature = "raw-schema")]
impl<T> RawSchemaFeature for T {
    fn compile() -> Compile {
        Compile(validator::compile)
    }
}
