//! Content blocks of tool results and prompt messages. Schema:
//! [`ContentBlock`](https://modelcontextprotocol.io/specification/2026-07-28/schema) and its variants.

#![expect(missing_docs, reason = "the schema documents items without a rule of their own")]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Icon, JsonObject, ProtocolVersion};

/// Content block of a result or prompt message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ContentBlock {
    /// Text.
    Text(TextContent),
    Image(ImageContent),
    /// Since 2025-03-26.
    Audio(AudioContent),
    /// Since 2025-06-18.
    ResourceLink(ResourceLink),
    Resource(EmbeddedResource),
}

impl ContentBlock {
    /// Creates a text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextContent { text: text.into(), annotations: None, meta: None })
    }

    /// Creates an image block from unencoded bytes.
    pub fn image(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Self {
        let data = BASE64_STANDARD.encode(bytes);
        Self::Image(ImageContent { data, mime_type: mime_type.into(), annotations: None, meta: None })
    }

    /// Creates an audio block from unencoded bytes. Revisions before 2025-03-26 get an embedded resource.
    pub fn audio(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Self {
        let data = BASE64_STANDARD.encode(bytes);
        Self::Audio(AudioContent { data, mime_type: mime_type.into(), annotations: None, meta: None })
    }

    /// Creates an embedded resource.
    pub fn resource(contents: ResourceContents) -> Self {
        Self::Resource(EmbeddedResource { resource: contents, annotations: None, meta: None })
    }

    /// Creates a link to a resource that the client can read. Revisions before 2025-06-18 get a text block.
    pub fn resource_link(name: impl Into<String>, uri: impl Into<String>) -> Self {
        Self::ResourceLink(ResourceLink::new(name, uri))
    }

    /// Sets the audience and priority of the block.
    #[must_use]
    pub fn with_annotations(mut self, annotations: Annotations) -> Self {
        let slot = match &mut self {
            Self::Text(block) => &mut block.annotations,
            Self::Image(block) => &mut block.annotations,
            Self::Audio(block) => &mut block.annotations,
            Self::ResourceLink(block) => &mut block.annotations,
            Self::Resource(block) => &mut block.annotations,
        };
        *slot = Some(annotations);
        self
    }

    /// Adds a member to the block's `_meta`. Clients ignore keys that they do not support.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let slot = match &mut self {
            Self::Text(block) => &mut block.meta,
            Self::Image(block) => &mut block.meta,
            Self::Audio(block) => &mut block.meta,
            Self::ResourceLink(block) => &mut block.meta,
            Self::Resource(block) => &mut block.meta,
        };
        slot.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Converts the block to `revision`. Fields that the revision does not define are removed. A block type that it
    /// does not define is converted without loss: audio to an embedded resource, a resource link to text.
    #[must_use]
    pub fn for_revision(self, revision: ProtocolVersion) -> Self {
        if revision >= ProtocolVersion::V2025_11_25 {
            return self;
        }
        let mut block = match self {
            Self::Audio(audio) if revision < ProtocolVersion::V2025_03_26 => Self::Resource(EmbeddedResource {
                resource: ResourceContents::Blob(BlobResourceContents {
                    uri: "urn:mcp:audio".to_owned(),
                    mime_type: Some(audio.mime_type),
                    blob: audio.data,
                    meta: None,
                }),
                annotations: audio.annotations,
                meta: audio.meta,
            }),
            Self::ResourceLink(link) if revision < ProtocolVersion::V2025_06_18 => {
                Self::Text(TextContent { text: link.to_text(), annotations: link.annotations, meta: link.meta })
            }
            other => other,
        };
        let (annotations, meta) = match &mut block {
            Self::Text(block) => (&mut block.annotations, &mut block.meta),
            Self::Image(block) => (&mut block.annotations, &mut block.meta),
            Self::Audio(block) => (&mut block.annotations, &mut block.meta),
            Self::ResourceLink(block) => {
                if !revision.may_have(ProtocolVersion::V2025_11_25) {
                    block.icons.clear();
                }
                (&mut block.annotations, &mut block.meta)
            }
            Self::Resource(block) => {
                if !revision.may_have(ProtocolVersion::V2025_06_18) {
                    block.resource.drop_meta();
                }
                (&mut block.annotations, &mut block.meta)
            }
        };
        if !revision.may_have(ProtocolVersion::V2025_06_18) {
            *meta = None;
            if let Some(annotations) = annotations {
                annotations.last_modified = None;
            }
        }
        block
    }
}

impl From<String> for ContentBlock {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for ContentBlock {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// Text content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextContent {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageContent {
    /// The bytes, encoded as Base64.
    pub data: String,
    /// Media type, such as `image/png`.
    pub mime_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Since 2025-03-26.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioContent {
    /// The bytes, encoded as Base64.
    pub data: String,
    /// Media type, such as `audio/wav`.
    pub mime_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Link to a resource that the client can read. Since 2025-06-18.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLink {
    pub uri: String,
    /// Programmatic name.
    pub name: String,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Size in bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Icons for display. Since 2025-11-25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

impl ResourceLink {
    /// Creates a link with a name and a URI. The other fields are unset.
    pub fn new(name: impl Into<String>, uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            name: name.into(),
            title: None,
            description: None,
            mime_type: None,
            size: None,
            icons: Vec::new(),
            annotations: None,
            meta: None,
        }
    }

    fn to_text(&self) -> String {
        let name = self.title.as_ref().unwrap_or(&self.name);
        match &self.description {
            Some(description) => format!("{name}: {} ({description})", self.uri),
            None => format!("{name}: {}", self.uri),
        }
    }
}

/// Resource contents embedded in a result or message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedResource {
    pub resource: ResourceContents,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Contents of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResourceContents {
    /// Text content.
    Text(TextResourceContents),
    /// Binary content.
    Blob(BlobResourceContents),
}

impl ResourceContents {
    /// Creates text contents.
    pub fn text(uri: impl Into<String>, mime_type: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Text(TextResourceContents {
            uri: uri.into(),
            mime_type: Some(mime_type.into()),
            text: text.into(),
            meta: None,
        })
    }

    /// Creates binary contents from unencoded bytes.
    pub fn blob(uri: impl Into<String>, mime_type: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self::Blob(BlobResourceContents {
            uri: uri.into(),
            mime_type: Some(mime_type.into()),
            blob: BASE64_STANDARD.encode(bytes),
            meta: None,
        })
    }

    /// Adds a member to `_meta`. Clients ignore keys that they do not support.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let slot = match &mut self {
            Self::Text(contents) => &mut contents.meta,
            Self::Blob(contents) => &mut contents.meta,
        };
        slot.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    pub(crate) fn drop_meta(&mut self) {
        match self {
            Self::Text(contents) => contents.meta = None,
            Self::Blob(contents) => contents.meta = None,
        }
    }
}

/// Text contents of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TextResourceContents {
    pub uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    pub text: String,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Binary contents of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobResourceContents {
    pub uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The bytes, encoded as Base64.
    pub blob: String,
    /// Implementation-defined metadata. Since 2025-06-18.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<JsonObject>,
}

/// Audience, priority and modification time of content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    /// Intended recipients; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Role>,
    /// Importance from 0 (optional) to 1 (effectively required).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    /// Time of the last change, in ISO 8601. Since 2025-06-18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// Sender or recipient of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The human user.
    User,
    /// The language model.
    Assistant,
}
