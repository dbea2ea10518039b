//! The duties of a client by a list of tools: parameters to mirror, and tools to leave out.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use mcp_protocol::{
    MirroredParameter,
    json::{self, Budget},
    mirrored_parameters,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{message::with_part, received};

/// What a schema may cost in memory: about 20,000 values, more than the schemas of a hundred tools have. Much less than a
/// message's budget, since each annotation is compared with all before it.
const SCHEMA_BUDGET: Budget = Budget::memory(8 * 1024 * 1024);
/// Maximum size of the cached names.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Lifetime of a list without `ttlMs`.
const USUAL_LIFETIME: Duration = Duration::from_secs(300);
/// Minimum and maximum lifetime of a list: one that is stale at once would be requested before each call.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 60 * 60);

/// Cache of the listed tools.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    kept: HashMap<String, Kept>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    mirrored: Vec<MirroredParameter>,
    /// When the list is no longer fresh; `None` if it is not.
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    tools: &'a RawValue,
    /// `ttlMs`, as it is written.
    #[serde(rename = "ttlMs", borrow)]
    ttl_ms: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    name: String,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

impl Tools {
    /// Whether a tool has been listed, and the list is fresh.
    pub(crate) fn knows(&self, name: &str, now: Instant) -> bool {
        self.kept.get(name).and_then(|kept| kept.until).is_some_and(|until| now < until)
    }

    /// Invalidates all lists after `list_changed`.
    pub(crate) fn expire(&mut self) {
        self.kept.values_mut().for_each(|kept| kept.until = None);
    }

    /// The parameters of a tool that are mirrored in headers.
    pub(crate) fn mirrored(&self, name: &str) -> &[MirroredParameter] {
        self.kept.get(name).map_or(&[], |kept| kept.mirrored.as_slice())
    }

    /// Caches the result of `tools/list`. If a tool has annotations that the specification forbids, returns the message
    /// without it; everything else stays as it was written.
    pub(crate) fn learn(&mut self, message: &str, result: &RawValue, now: Instant) -> Option<String> {
        let list = json::borrow::<List<'_>>(result.get()).ok()?;
        let tools = received::read::<Vec<Box<RawValue>>>(list.tools.get()).ok()?;
        let ttl = list.ttl_ms.and_then(|own| json::borrow::<f64>(own.get()).ok());
        let ttl = ttl.and_then(|own| Duration::try_from_secs_f64(own / 1000.0).ok()).unwrap_or(USUAL_LIFETIME);
        let until = now + ttl.clamp(*LIFETIMES.start(), *LIFETIMES.end());
        let kept: Vec<&str> = tools.iter().filter(|tool| self.keep(tool, until)).map(|tool| tool.get()).collect();
        (kept.len() < tools.len()).then(|| with_part(message, list.tools.get(), &format!("[{}]", kept.join(","))))
    }

    fn keep(&mut self, tool: &RawValue, until: Instant) -> bool {
        let Ok(listed) = json::borrow::<Listed<'_>>(tool.get()) else {
            // The client may make sense of it.
            return true;
        };
        let schema = listed.input_schema.map_or("null", RawValue::get);
        let mirrored = json::read::<Value>(schema, SCHEMA_BUDGET).map_err(|error| error.to_string());
        match mirrored.and_then(|schema| mirrored_parameters(&schema)) {
            Ok(mirrored) => {
                self.note(listed.name, Kept { mirrored, until: Some(until) });
                true
            }
            Err(mistake) => {
                tracing::warn!(tool = listed.name, mistake, "a tool is left out");
                false
            }
        }
    }

    /// Caches the mirrored parameters of a tool, up to [`MAX_KEPT_BYTES`].
    fn note(&mut self, name: String, kept: Kept) {
        let texts = kept.mirrored.iter().flat_map(|own| own.path.iter().chain([&own.header]));
        let bytes = name.len() + texts.map(String::len).sum::<usize>();
        if self.kept_bytes + bytes > MAX_KEPT_BYTES {
            tracing::warn!("the server has listed too many tools: forgetting those before");
            (self.kept, self.kept_bytes) = (HashMap::new(), 0);
        }
        if self.kept.insert(name, kept).is_none() {
            self.kept_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Shape;

    #[test]
    fn a_tool_with_a_bad_annotation_is_left_out_and_nothing_else_changes() {
        let bad =
            r#"{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}"#;
        let good = r#"{ "name":"good", "x":1e400,"inputSchema":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"B"}}}}"#;
        let message = format!(r#"{{"id":1, "result":{{"z":[],"tools":[{bad}, {good}],"nextCursor":"c"}}}}"#);
        let shape: Shape<'_> = serde_json::from_str(&message).unwrap();
        let mut tools = Tools::default();

        let now = Instant::now();
        let without = tools.learn(&message, shape.result.unwrap(), now);

        assert_eq!(without.unwrap(), format!(r#"{{"id":1, "result":{{"z":[],"tools":[{good}],"nextCursor":"c"}}}}"#));
        assert!(tools.knows("good", now) && !tools.knows("bad", now));
        assert_eq!(tools.mirrored("good")[0].header, "B");
    }

    /// C20
    #[test]
    fn a_list_holds_as_long_as_it_says() {
        for (ttl, seconds) in
            [("", 300), (r#""ttlMs":120000,"#, 120), (r#""ttlMs":0,"#, 60), (r#""ttlMs":1e300,"#, 300)]
        {
            let message = format!(r#"{{"id":1,"result":{{{ttl}"tools":[{{"name":"t","inputSchema":{{}}}}]}}}}"#);
            let shape: Shape<'_> = serde_json::from_str(&message).unwrap();
            let (mut tools, now) = (Tools::default(), Instant::now());
            tools.learn(&message, shape.result.unwrap(), now);

            let end = now + Duration::from_secs(seconds);
            assert!(tools.knows("t", end - Duration::from_millis(1)) && !tools.knows("t", end), "{ttl}");
            tools.expire();
            assert!(!tools.knows("t", now));
        }
    }
}
