//! Setters that all items share.

/// Setters of an item with a `definition`: description, icons, `_meta`, access rules.
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

        /// Adds a member to `_meta` in the list, for clients that know its key; replaces an earlier value. Keys are namespaced
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

/// Setter of the title, except for tools, whose definition has it in two places.
macro_rules! title_setter {
    () => {
        /// Sets the display name.
        #[must_use]
        pub fn title(mut self, title: impl Into<String>) -> Self {
            self.definition.title = Some(title.into());
            self
        }
    };
}

/// Further setters of resources and templates.
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

        /// Sets the caching of contents by clients. By default they are private and immediately stale.
        #[must_use]
        pub fn caching(mut self, caching: crate::Caching) -> Self {
            self.caching = caching;
            self
        }
    };
}

pub(crate) use {item_setters, resource_setters, title_setter};
