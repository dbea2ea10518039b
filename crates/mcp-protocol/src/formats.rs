//! The values of `format` in schemas of tools.

/// The formats of JSON Schema 2020-12 that `ajv-formats` checks, too. Strict clients do not compile a schema with others.
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
