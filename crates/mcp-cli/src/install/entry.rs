//! A server's entry in the text of a configuration file, JSON or TOML. All else in the text stays as it is.

use anyhow::{Context, bail};
use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode},
};
use toml_edit::{DocumentMut, Item, Table};

use super::{
    App,
    existing::{Existing, stale},
};

/// A value in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
}

/// The members of an entry that `mcpl install` writes.
pub(super) const OWN_MEMBERS: [&str; 6] = ["type", "url", "httpUrl", "serverUrl", "command", "args"];

/// The names of the servers that have an entry.
pub(super) fn names(app: App, text: &str) -> Vec<String> {
    let read = || {
        if app == App::Codex {
            let document = parse_toml(text).ok()?;
            let servers = document.get(app.map())?.as_table_like()?;
            return Some(servers.iter().map(|(name, _)| name.to_owned()).collect());
        }
        let servers = only(&parse_json(text).ok()?.object_value()?, app.map()).ok()??.object_value()?;
        Some(servers.properties().iter().filter_map(CstObjectProp::decoded_name).collect())
    };
    read().unwrap_or_default()
}

/// Adds the entry to the text. Members that the user has added to an entry for the same origin stay.
pub(super) fn with_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    match app {
        App::Codex => with_toml_entry(app, text, name, entry),
        _ => with_json_entry(app, text, name, entry),
    }
}

/// Removes the entry from the text.
pub(super) fn without_entry(app: App, text: &str, name: &str) -> anyhow::Result<String> {
    match app {
        App::Codex => {
            let mut document = parse_toml(text)?;
            if let Some(servers) = document.get_mut(app.map()).and_then(Item::as_table_like_mut) {
                servers.remove(name);
            }
            Ok(with_line_ends_of(text, &document))
        }
        _ => {
            let root = parse_json(text)?;
            let unchanged = || Ok(text.to_owned());
            let Some(object) = root.object_value() else { return unchanged() };
            let servers = only(&object, app.map())?.and_then(|servers| servers.object_value());
            let Some(servers) = servers else { return unchanged() };
            let Some(entry) = only(&servers, name)? else { return unchanged() };
            entry.remove();
            Ok(root.to_string())
        }
    }
}

fn with_json_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    let root = parse_json(if text.trim().is_empty() { "{}\n" } else { text })?;
    let object = root.object_value().context("it is no JSON object")?;
    only(&object, app.map())?;
    let servers = object.object_value_or_create(app.map()).with_context(|| format!("`{}` is no object", app.map()))?;
    match only(&servers, name)? {
        Some(own) => {
            let own = own.object_value().with_context(|| format!("`{name}` is no object"))?;
            for stale in stale(Existing::of_json(&own), entry) {
                if let Some(stale) = only(&own, &stale)? {
                    stale.remove();
                }
            }
            for (member, value) in entry {
                match only(&own, member)? {
                    Some(old) if old.value().is_some_and(|old| value.is(&old.to_string())) => {}
                    Some(old) => old.set_value(value.to_json()),
                    None => _ = own.append(member, value.to_json()),
                }
            }
        }
        None => {
            let members = entry.iter().map(|(name, value)| ((*name).to_owned(), value.to_json()));
            _ = servers.append(name, CstInputValue::Object(members.collect()));
        }
    }
    Ok(root.to_string())
}

fn with_toml_entry(app: App, text: &str, name: &str, entry: &[(&'static str, Value)]) -> anyhow::Result<String> {
    let mut document = parse_toml(text)?;
    let servers = document.entry(app.map()).or_insert_with(|| {
        let mut servers = Table::new();
        // `[mcp_servers.name]` says it already.
        servers.set_implicit(true);
        Item::Table(servers)
    });
    let servers = servers.as_table_like_mut().with_context(|| format!("`{}` is no table", app.map()))?;
    if let Some(own) = servers.get_mut(name) {
        let own = own.as_table_like_mut().with_context(|| format!("`{name}` is no table"))?;
        for stale in stale(Existing::of_toml(own), entry) {
            own.remove(&stale);
        }
        for (member, value) in entry {
            let new = Item::Value(value.to_toml());
            if own.get(member).is_none_or(|old| plain(old) != plain(&new)) {
                own.insert(member, new);
            }
        }
    } else {
        let mut own = Table::new();
        for (member, value) in entry {
            own.insert(member, Item::Value(value.to_toml()));
        }
        servers.insert(name, Item::Table(own));
    }
    Ok(with_line_ends_of(text, &document))
}

/// A document as it is written with the line ends of its first version, which the parser makes those of Unix.
fn with_line_ends_of(text: &str, document: &DocumentMut) -> String {
    let mut written = document.to_string();
    if !text.is_empty() && !text.ends_with('\n') && written.ends_with('\n') {
        written.pop();
    }
    let is_windows = text.contains("\r\n") && !text.replace("\r\n", "").contains('\n');
    if is_windows { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written }
}

/// A value without the spacing around it.
fn plain(item: &Item) -> String {
    item.to_string().trim().to_owned()
}

impl Value {
    fn to_json(&self) -> CstInputValue {
        match self {
            Self::Text(text) => CstInputValue::String(text.clone()),
            Self::List(list) => CstInputValue::Array(list.iter().cloned().map(CstInputValue::String).collect()),
        }
    }

    /// Whether a JSON text has the same value.
    fn is(&self, text: &str) -> bool {
        match self {
            // Unbounded JSON: the user's own configuration.
            Self::Text(own) => serde_json::from_str::<String>(text).is_ok_and(|text| text == *own),
            Self::List(own) => serde_json::from_str::<Vec<String>>(text).is_ok_and(|list| list == *own),
        }
    }

    fn to_toml(&self) -> toml_edit::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        }
    }
}

/// A member, if it is there.
///
/// # Errors
///
/// When it is there twice, however it is spelled: programs differ in which one they take.
pub(super) fn only(object: &CstObject, name: &str) -> anyhow::Result<Option<CstObjectProp>> {
    let mut own = object.properties().into_iter().filter(|own| own.decoded_name().as_deref() == Some(name));
    let first = own.next();
    if own.next().is_some() {
        bail!("it has `{name}` twice: leave one of them");
    }
    Ok(first)
}

/// JSON with comments and trailing commas, as several of these programs take it.
pub(super) fn parse_json(text: &str) -> anyhow::Result<CstRootNode> {
    let options = ParseOptions { allow_comments: true, allow_trailing_commas: true, ..ParseOptions::default() };
    CstRootNode::parse(text, &options).context("it is not JSON")
}

pub(super) fn parse_toml(text: &str) -> anyhow::Result<DocumentMut> {
    text.parse().context("it is not TOML")
}

pub(super) fn has_entry(app: App, text: &str, name: &str) -> bool {
    without_entry(app, text, name).is_ok_and(|without| without != text)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Server, tests::SERVER},
        *,
    };

    /// Files as people have them.
    fn samples(app: App) -> Vec<String> {
        let map = app.map();
        if app == App::Codex {
            return vec![
                String::new(),
                "model = \"o9\"  # the best\n\n[profiles.x]\nmodel='y'\n".to_owned(),
                format!("# servers\n[{map}.other]\ncommand = \"npx\"\nargs = [\"-y\", 'x'] # odd\n\n[tail]\nz = 1"),
                format!("[{map}]\n\n[{map}.other]\nurl=\"https://x.example\"\r\n"),
                format!("{map} = {{ other = {{ command = \"a\" }} }}\n"),
            ];
        }
        vec![
            String::new(),
            "{}".to_owned(),
            "{\n}\n".to_owned(),
            format!("{{\"{map}\":{{}}}}"),
            format!(
                "{{\n\t\"theme\" : \"dark\",\n\t// what I use\n\t\"{map}\": {{\n\t\t\"other\": {{\"command\":\"npx\", \"args\":[\"-y\",\"x\"]}}, // keep\n\t}},\n\t\"z\": [1,  2,\n3]\n}}\n"
            ),
            format!(
                "{{\r\n    \"{map}\": {{\r\n        \"other\": {{ \"url\": \"https://x.example\" }}\r\n    }}\r\n}}\r\n"
            ),
            format!("/* mine */ {{ \"a\": 1e400, \"{map}\": {{ \"b\": {{}} }}, \"c\": \"\\u00e9\" }} // end"),
        ]
    }

    #[test]
    fn an_entry_comes_and_goes_and_nothing_else_changes() {
        for app in App::ALL {
            for original in samples(app) {
                for via_proxy in [false, true] {
                    let entry = app.entry(&SERVER, via_proxy);

                    let installed = with_entry(app, &original, SERVER.name, &entry).unwrap();
                    let again = with_entry(app, &installed, SERVER.name, &entry).unwrap();
                    let removed = without_entry(app, &installed, SERVER.name).unwrap();

                    assert_ne!(installed, original, "{app:?}");
                    assert_eq!(again, installed, "{app:?}: twice is as good as once");
                    assert!(installed.contains(SERVER.url), "{installed}");
                    // Each line that was there is there still, in its order.
                    let mut rest = installed.lines();
                    for line in
                        original.lines().map(str::trim).filter(|line| line.len() > 2 && !line.contains(app.map()))
                    {
                        let line = line.trim_end_matches(',');
                        assert!(rest.any(|own| own.contains(line)), "{app:?}: `{line}` is missing in\n{installed}");
                    }
                    assert!(
                        !removed.contains(SERVER.name) && !has_entry(app, &removed, SERVER.name),
                        "{app:?}: {removed}"
                    );
                    let twice = with_entry(app, &removed, SERVER.name, &entry).unwrap();
                    assert_eq!(without_entry(app, &twice, SERVER.name).unwrap(), removed, "{app:?}");
                }
            }
        }
    }

    #[test]
    fn an_entry_that_is_there_is_replaced() {
        for app in App::ALL {
            let old = app.entry(&Server { url: "https://old.example/mcp", ..SERVER }, false);
            let text = with_entry(app, "", SERVER.name, &old).unwrap();

            let new = with_entry(app, &text, SERVER.name, &app.entry(&SERVER, false)).unwrap();

            assert!(new.contains(SERVER.url) && !new.contains("old.example"), "{new}");
        }
    }

    #[test]
    fn what_a_user_has_added_to_an_entry_stays() {
        for app in App::ALL {
            let text = with_entry(app, "", SERVER.name, &app.entry(&SERVER, true)).unwrap();
            let added = match app {
                App::Codex => format!("{text}env = {{ MCPL_CLIENT_SECRET = \"s\" }}\n"),
                _ => text.replace("\"command\"", "\"env\": {\"MCPL_CLIENT_SECRET\": \"s\"}, \"command\""),
            };
            assert_ne!(added, text);

            let again = with_entry(app, &added, SERVER.name, &app.entry(&SERVER, true)).unwrap();
            let direct = with_entry(app, &added, SERVER.name, &app.entry(&SERVER, false)).unwrap();

            assert_eq!(again, added, "{app:?}");
            assert!(direct.contains("MCPL_CLIENT_SECRET"), "{direct}");
            assert_eq!(direct.contains("\"command\"") || direct.contains("command ="), app == App::Claude, "{direct}");
        }
    }

    /// 8.6: the program may take the one that was not changed.
    #[test]
    fn a_file_with_two_members_of_one_name_is_left_alone() {
        let app = App::Cursor;
        let (entry, name) = (app.entry(&SERVER, false), SERVER.name);
        for (text, twice) in [
            (r#"{"mcpServers":{},"mcpServers":{"greeter":{"url":"x"}}}"#, "mcpServers"),
            (r#"{"mcpServers":{"greeter":{}},"mcp\u0053ervers":{}}"#, "mcpServers"),
            (r#"{"mcpServers":{"greeter":{},"gr\u0065eter":{}}}"#, "greeter"),
            (r#"{"mcpServers":{"greeter":{"url":"x","url":"y"}}}"#, "url"),
            (r#"{"mcpServers":{"greeter":{"\u0075rl":"x","url":"y"}}}"#, "url"),
            (r#"{"mcpServers":{"greeter":{"command":"x","c\u006fmmand":"y"}}}"#, "command"),
        ] {
            let error = with_entry(app, text, name, &entry).unwrap_err().to_string();
            assert_eq!(error, format!("it has `{twice}` twice: leave one of them"), "{text}");
            // An entry that goes as a whole may be odd in itself.
            let gone = without_entry(app, text, name);
            assert_eq!(gone.is_err(), matches!(twice, "mcpServers" | "greeter"), "{text}: {gone:?}");
        }
        let toml = "[mcp_servers.greeter]\nurl = 'x'\nurl = 'y'\n";
        assert!(with_entry(App::Codex, toml, name, &entry).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for app in App::ALL {
            let broken = if app == App::Codex { "[mcp_servers" } else { "{ \"mcpServers\": {" };
            let odd =
                if app == App::Codex { "mcp_servers = 1".to_owned() } else { format!("{{\"{}\": 1}}", app.map()) };
            for text in [broken, &odd] {
                assert!(with_entry(app, text, "x", &app.entry(&SERVER, false)).is_err(), "{app:?} {text}");
            }
        }
        assert!(with_entry(App::Cursor, "[]", "x", &[]).is_err());
    }
}
