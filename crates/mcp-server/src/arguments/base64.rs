//! Binary data in arguments and results.

use std::{borrow::Cow, fmt, ops::Deref};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// At most `MAX` bytes, encoded as Base64 ([RFC 4648](https://www.rfc-editor.org/rfc/rfc4648#section-4)), with or without
/// padding.
///
/// The schema has the bound as `maxLength` of the encoded string, which is checked before decoding. The platform's request
/// limit applies too: 6 MB of Base64 are 4.5 MB of decoded bytes.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{Base64, HandlerError, ToolContext};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// #[garde(allow_unvalidated)]
/// struct MeasureArgs {
///     /// The picture, a PNG of at most a megabyte.
///     picture: Base64<1_000_000>,
/// }
///
/// async fn measure(_: ToolContext<()>, args: MeasureArgs) -> Result<String, HandlerError> {
///     if !args.picture.starts_with(b"\x89PNG") {
///         return Err(HandlerError::invalid_input("`picture` is not a PNG: convert it first"));
///     }
///     Ok(format!("{} bytes", args.picture.len()))
/// }
/// # let _ = mcp_server::Tool::new("measure", measure);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Base64<const MAX: usize>(Vec<u8>);

/// The standard alphabet; padding is optional.
const EITHER_PADDING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl<const MAX: usize> Base64<MAX> {
    /// Maximum length of the text in characters, with padding.
    const MAX_CHARS: usize = 4 * MAX.div_ceil(3);

    /// Returns the decoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn decode(text: &str) -> Result<Self, String> {
        let too_long = || format!("at most {MAX} bytes are allowed ({} characters of Base64)", Self::MAX_CHARS);
        if text.len() > Self::MAX_CHARS {
            return Err(too_long());
        }
        let decoded = EITHER_PADDING.decode(text).map_err(|_| match text.starts_with("data:") {
            true => "expected Base64 alone: leave out `data:` and everything up to the comma",
            false => "expected Base64: A-Z a-z 0-9 + / and = at the end, without line breaks",
        })?;
        if decoded.len() > MAX { Err(too_long()) } else { Ok(Self(decoded)) }
    }
}

impl<const MAX: usize> From<Vec<u8>> for Base64<MAX> {
    /// For results. More than `MAX` bytes violate the tool's output schema.
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl<const MAX: usize> Deref for Base64<MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> AsRef<[u8]> for Base64<MAX> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Base64<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl<const MAX: usize> Serialize for Base64<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Base64<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64Visitor<const MAX: usize>;

        impl<const MAX: usize> Visitor<'_> for Base64Visitor<MAX> {
            type Value = Base64<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of Base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64<MAX>, E> {
                Base64::decode(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Base64Visitor)
    }
}

impl<const MAX: usize> JsonSchema for Base64<MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Base64_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64", "maxLength": Self::MAX_CHARS })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<const MAX: usize>(text: &str) -> Result<Vec<u8>, String> {
        serde_json::from_value::<Base64<MAX>>(json!(text)).map(Base64::into_bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn padding_is_optional() {
        for text in ["Zm9vYg==", "Zm9vYg", "Zm9vYg="] {
            assert_eq!(read::<4>(text).unwrap(), b"foob", "{text}");
        }
        assert_eq!(read::<0>("").unwrap(), b"");
    }

    #[test]
    fn invalid_base64_is_rejected_with_the_fix() {
        for text in ["Zm9v\nYmFy", "Zm9*", "Zm-_", "Z", "Zm9vYh=="] {
            assert!(read::<10>(text).unwrap_err().contains("expected Base64: A-Z"), "{text}");
        }
        assert!(read::<100>("data:image/png;base64,Zm9v").unwrap_err().contains("leave out `data:`"));
        assert!(serde_json::from_str::<Base64<4>>("[1,2]").unwrap_err().to_string().contains("a string of Base64"));
    }

    /// The longest encoded string may encode up to two bytes more than `MAX`.
    #[test]
    fn the_bound_is_exact() {
        assert_eq!(read::<4>("AAAAAA==").unwrap().len(), 4);
        for (text, bytes) in [("AAAAAAA=", 5), ("AAAAAAAA", 6), ("AAAAAAAAA", 7)] {
            let error = read::<4>(text).unwrap_err();
            assert_eq!(error, "at most 4 bytes are allowed (8 characters of Base64)", "{bytes}");
        }
    }

    #[test]
    fn the_schema_has_the_encoding_and_the_length_of_the_text() {
        let schema = crate::schema::for_clients(crate::schema::input_schema_of::<Base64<1000>>());

        assert_eq!(schema, json!({ "type": "string", "contentEncoding": "base64", "maxLength": 1336 }));
        let longest = serde_json::to_value(Base64::<1000>::from(vec![0; 1000])).unwrap();
        assert_eq!(longest.as_str().unwrap().len(), 1336);
    }

    #[test]
    fn bytes_are_not_shown_in_debug() {
        assert_eq!(format!("{:?}", Base64::<10>::from(vec![1, 2])), "Base64(2 bytes)");
    }
}
