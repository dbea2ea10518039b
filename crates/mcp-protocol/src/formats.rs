//! The values of `format` in tool schemas.

/// The formats of JSON Schema 2020-12 that `ajv-formats` supports. Strict clients reject a schema with other formats.
pub const INTEROPERABLE_FORMATS: [&str; 15] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];
