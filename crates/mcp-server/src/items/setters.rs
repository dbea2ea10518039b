//! The setters that all items have.

/// Title, description, icons and `_meta` of an item with a `definition`, and its access rules.
macro_rules! item_setters {
    ($description:literal, $icons:literal) => {
        #[doc = $description]
        #[must_use]
        pub fn description(mut self, description: impl Into<String>) -> Self {
            self.definition.description = Some(description.into());
            self
        }

        #[doc = $icons]
        #[must_use]
        pub fn icons(mut self, icons: impl IntoIterator<Item = mcp_protocol::Icon>) -> Self {
            self.definition.icons = icons.into_iter().collect();
            self
        }

        /// Adds a member to `_meta` in the list, for clients that know its key; again to replace it. Keys are namespaced
        /// (`com.example/key`), and those that begin with `mcp` or `modelcontextprotocol` are reserved (2026-07-28, `basic`,
        /// "General fields").
        #[must_use]
        pub fn meta(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
            self.definition.meta.get_or_insert_default().insert(key.into(), value.into());
            self
        }

        crate::policy::requirement::public_setter!();
        crate::policy::requirement::requirement_setters!();
    };
}

/// The title of an item other than a tool, which has it in two places.
macro_rules! title_setter {
    () => {
        /// A name for people.
        #[must_use]
        pub fn title(mut self, title: impl Into<String>) -> Self {
            self.definition.title = Some(title.into());
            self
        }
    };
}

/// What resources and templates have beside.
macro_rules! resource_setters {
    ($mime_type:literal, $annotations:literal) => {
        #[doc = $mime_type]
        #[must_use]
        pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
            self.definition.mime_type = Some(mime_type.into());
            self
        }

        #[doc = $annotations]
        #[must_use]
        pub fn annotations(mut self, annotations: mcp_protocol::Annotations) -> Self {
            self.definition.annotations = Some(annotations);
            self
        }

        /// How long clients may keep what they read, and who may share it. Unless set it is private and stale at once.
        #[must_use]
        pub fn caching(mut self, caching: crate::Caching) -> Self {
            self.caching = caching;
            self
        }
    };
}

pub(crate) use {item_setters, resource_setters, title_setter};
