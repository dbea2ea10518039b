//! `_meta` of items.

/// The setter of `_meta`, of an item with a `definition`.
macro_rules! meta_setter {
    () => {
        /// Adds a member to `_meta` in the list, for clients that know its key; again to replace it. Keys are namespaced
        /// (`com.example/key`), and those that begin with `mcp` or `modelcontextprotocol` are reserved (2026-07-28, `basic`,
        /// "General fields").
        #[must_use]
        pub fn meta(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
            self.definition.meta.get_or_insert_default().insert(key.into(), value.into());
            self
        }
    };
}
pub(crate) use meta_setter;
