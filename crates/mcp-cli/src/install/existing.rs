//! An existing entry: its server, and the members that are removed.

use std::fmt;

use jsonc_parser::cst::{CstObject, CstObjectProp};
use toml_edit::{Item, TableLike};
use url::Url;

use super::{
    App,
    entry::{OWN_MEMBERS, Value, only, parse_json, parse_toml},
};

/// The members of an existing entry that identify its server.
#[derive(Debug, Default)]
pub(super) struct Existing {
    /// The names of its members.
    members: Vec<String>,
    url: Option<String>,
    command: Option<String>,
    args: Vec<String>,
}

impl Existing {
    /// Reads the members of an entry; their values are those that are texts, or lists of texts.
    fn of(members: impl IntoIterator<Item = (String, Option<Value>)>) -> Self {
        let mut own = Self::default();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("url" | "httpUrl" | "serverUrl", Some(Value::Text(url))) => own.url = Some(url),
                ("command", Some(Value::Text(command))) => own.command = Some(command),
                ("args", Some(Value::List(args))) => own.args = args,
                _ => {}
            }
            own.members.push(name);
        }
        own
    }

    pub(super) fn of_json(entry: &CstObject) -> Self {
        let value = |own: &CstObjectProp| {
            let own = own.value()?;
            if let Some(list) = own.as_array() {
                let items = list.elements();
                let texts = items.iter().map(|item| item.as_string_lit()?.decoded_value().ok());
                return texts.collect::<Option<_>>().map(Value::List);
            }
            own.as_string_lit()?.decoded_value().ok().map(Value::Text)
        };
        Self::of(entry.properties().iter().map(|own| (own.decoded_name().unwrap_or_default(), value(own))))
    }

    pub(super) fn of_toml(entry: &dyn TableLike) -> Self {
        let value = |own: &Item| match own.as_array() {
            Some(list) => {
                list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Value::List)
            }
            None => own.as_str().map(|text| Value::Text(text.to_owned())),
        };
        Self::of(entry.iter().map(|(name, own)| (name.to_owned(), value(own))))
    }

    /// Whether `mcpl` may have written it: it starts `mcpl proxy`, or has a URL and starts nothing.
    fn is_own(&self) -> bool {
        let Some(command) = &self.command else { return true };
        let name = command.rsplit(['/', '\\']).next().unwrap_or_default();
        name.trim_end_matches(".exe") == "mcpl" && self.args.first().is_some_and(|first| first == "proxy")
    }

    /// The URL of its server: its own, that of `mcpl proxy NAME URL`, or the first one among the words of another command.
    fn server(&self) -> Option<Url> {
        let urls = || self.args.iter().filter_map(|word| Url::parse(word).ok()).filter(Url::has_host);
        match &self.url {
            Some(url) => Url::parse(url).ok(),
            None => urls().find(|url| matches!(url.scheme(), "http" | "https")),
        }
    }

    /// Whether it is for the same origin. One that names none is for another.
    fn is_for(&self, url: Option<&Url>) -> bool {
        let own = self.server().map(|own| own.origin());
        own.is_some_and(|own| own.is_tuple() && url.is_some_and(|url| url.origin() == own))
    }
}

/// An entry that is replaced as a whole, since it was for another server: its headers and variables may be secrets of that one.
#[derive(Debug)]
pub(super) struct Replaced {
    existing: Existing,
    /// Members of the user that are removed.
    dropped: Vec<String>,
}

impl Replaced {
    /// What the new entry replaces, if that is worth a warning: it had more than a URL, or another program had its place.
    pub(super) fn of(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> Option<Self> {
        let existing = existing(app, text, name)?;
        if existing.is_for(url_of(entry).as_ref()) {
            return None;
        }
        let dropped: Vec<String> =
            existing.members.iter().filter(|member| !OWN_MEMBERS.contains(&member.as_str())).cloned().collect();
        (!existing.is_own() || !dropped.is_empty()).then_some(Self { existing, dropped })
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entry of this name is replaced: it was for another server")?;
        match (self.existing.server(), &self.existing.command) {
            (Some(server), _) => write!(f, " ({})", server.origin().ascii_serialization())?,
            (None, Some(command)) => write!(f, " (`{command}`)")?,
            (None, None) => {}
        }
        if !self.dropped.is_empty() {
            write!(f, ", whose `{}` are not kept", self.dropped.join("`, `"))?;
        }
        Ok(())
    }
}

fn existing(app: App, text: &str, name: &str) -> Option<Existing> {
    if app == App::Codex {
        let document = parse_toml(text).ok()?;
        let own = document.get(app.map())?.as_table_like()?.get(name)?.as_table_like()?;
        return Some(Existing::of_toml(own));
    }
    let servers = only(&parse_json(text).ok()?.object_value()?, app.map()).ok()??.object_value()?;
    Some(Existing::of_json(&only(&servers, name).ok()??.object_value()?))
}

/// The URL that an entry of ours has.
fn url_of(entry: &[(&'static str, Value)]) -> Option<Url> {
    Existing::of(entry.iter().map(|(name, value)| ((*name).to_owned(), Some(value.clone())))).server()
}

/// The members that do not stay: those of ours that the new entry does not have, or all that it does not have if the entry was
/// for another server.
pub(super) fn stale(existing: Existing, entry: &[(&'static str, Value)]) -> Vec<String> {
    let is_kept = existing.is_for(url_of(entry).as_ref());
    let is_new = |member: &String| entry.iter().any(|(name, _)| name == member);
    let members = existing.members.into_iter().filter(|member| !is_new(member));
    members.filter(|member| !is_kept || OWN_MEMBERS.contains(&member.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Server, entry::with_entry, tests::SERVER},
        *,
    };

    const ELSEWHERE: &str = "https://old.example/mcp";

    /// An entry with secrets, as the user has it in the file of a program.
    fn added(app: App, url: &str, via_proxy: bool) -> String {
        let text = with_entry(app, "", SERVER.name, &app.entry(&Server { url, ..SERVER }, via_proxy)).unwrap();
        let secrets =
            r#""headers": {"Authorization": "hunter2"}, "env": {"KEY": "hunter2"}, "cwd": "/x", "disabled": true"#;
        match app {
            App::Codex => format!(
                "{text}cwd = \"/x\"\nenv = {{ KEY = \"hunter2\" }}\n\n[{0}.greeter.http_headers]\nA = \"hunter2\"\n",
                app.map()
            ),
            _ => text.replace("\"greeter\": {", &format!("\"greeter\": {{ {secrets},")),
        }
    }

    #[test]
    fn nothing_of_an_entry_for_another_server_stays() {
        for app in App::ALL {
            for (via_proxy, again) in [(false, true), (true, false), (false, false), (true, true)] {
                let text = added(app, ELSEWHERE, via_proxy);
                let entry = app.entry(&SERVER, again);

                let new = with_entry(app, &text, SERVER.name, &entry).unwrap();
                let replaced = Replaced::of(app, &text, SERVER.name, &entry).unwrap().to_string();

                assert!(text.contains("hunter2") && !new.contains("hunter2"), "{app:?}: {new}");
                assert!(!new.contains("cwd") && !new.contains("disabled") && new.contains(SERVER.url), "{new}");
                assert!(replaced.contains("(https://old.example)") && replaced.contains("`env`"), "{replaced}");
            }
        }
    }

    #[test]
    fn what_was_added_to_an_entry_for_the_same_origin_stays() {
        for app in App::ALL {
            let text = added(app, &SERVER.url.replace("/mcp", "/old"), false);
            let entry = app.entry(&SERVER, false);

            let new = with_entry(app, &text, SERVER.name, &entry).unwrap();

            assert_eq!(new, text.replace("/old", "/mcp"), "{app:?}");
            assert!(Replaced::of(app, &text, SERVER.name, &entry).is_none());
        }
    }

    #[test]
    fn an_entry_of_another_program_is_replaced_with_a_warning() {
        let entry = App::Claude.entry(&SERVER, true);
        let of = |own: &str| format!(r#"{{"mcpServers":{{"greeter":{own}}}}}"#);
        let replaced = |own: &str| Replaced::of(App::Claude, &of(own), SERVER.name, &entry).map(|own| own.to_string());

        let npx = replaced(r#"{"command":"npx","args":["-y","notes"],"env":{"KEY":"hunter2"}}"#).unwrap();

        assert!(npx.contains("(`npx`), whose `env` are not kept"), "{npx}");
        assert!(replaced(r#"{"command":"mcpl","args":["other","https://x.example"]}"#).is_some());
        assert!(replaced(r#"{"command":"npx","args":["mcp-remote","https://x.example/sse"]}"#).is_some());
        // Of ours alone, the difference that is shown says it all.
        assert_eq!(
            replaced(&format!(r#"{{"command":"C:\\\\mcpl.exe","args":["proxy","greeter","{ELSEWHERE}"]}}"#)),
            None
        );
        assert_eq!(replaced(&format!(r#"{{"url":"{ELSEWHERE}"}}"#)), None);
        // Spelled in another way, it is the same origin.
        let same = SERVER.url.replace("https://", "HTTPS://").replace("/mcp", ":443/x");
        assert_eq!(replaced(&format!(r#"{{"url":"{same}","headers":{{}}}}"#)), None);
        for odd in ["{}", r#"{"url":5}"#, r#"{"url":"data:,x","headers":{}}"#, r#"{"args":["https://",{}]}"#] {
            let new = with_entry(App::Cursor, &of(odd), SERVER.name, &App::Cursor.entry(&SERVER, false)).unwrap();
            assert!(new.contains(SERVER.url) && !new.contains("headers") && !new.contains("args"), "{odd}: {new}");
        }
    }
}
