//! HTML page at the server's URL for browsers: tools, connection instructions, and a form for each tool that anonymous
//! callers can call. It contains only data that the lists return to anonymous callers.
//!
//! [`render`] creates the page from a server's summary. Send it with [`HEADERS`].

use std::fmt::{self, Display, Write};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mcp_protocol::ProtocolVersion;
use mcp_server::{CallError, ServerSummary, ToolSummary};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Response headers of the page, with its Content Security Policy. The hashes are those of `page.js` and `page.css`; a
/// test compares them and prints the correct values.
pub const HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'sha256-CPSSqRMpOfxJDDKYiBmemzAbwZXRwiIHVz7+KgtnuEA='; \
         style-src 'sha256-J5qdGiM0j/RcpioqDPADyd0r75vYQu9B27VqVjoPCgM='; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("content-type", "text/html; charset=utf-8"),
];

/// Renders the page of the server `name`. `summary` is the summary for anonymous callers, or the error that they get.
/// `issuers` are the issuers of accepted tokens. `endpoint` is the URL of the MCP endpoint, if known.
pub fn render(
    name: &str,
    summary: Result<&ServerSummary<'_>, &CallError>,
    issuers: &[&str],
    endpoint: Option<&str>,
) -> String {
    let info = summary.ok().map(|own| own.info);
    let title = info.and_then(|own| own.title.as_deref()).unwrap_or(name);
    let about = fragment(|page| {
        write!(page, "<p class=\"facts\"><code>{}</code>", Escaped(name))?;
        if let Some(info) = info {
            write!(page, " <span>version {}</span>", Escaped(&info.version))?;
        }
        write!(page, " {}</p>", access(summary))
    });
    let instructions = summary.ok().and_then(|own| own.instructions).map(Escaped);
    let connect = match endpoint {
        Some(url) => connect(name, url, !issuers.is_empty()),
        None => UNKNOWN_ENDPOINT.to_owned(),
    };
    let connect = connect + &sign_in(issuers);
    format!(
        include_str!("page.html"),
        title = Escaped(title),
        style = STYLE,
        version = ProtocolVersion::LATEST,
        about = about,
        instructions = Optional("<p class=\"instructions\">", instructions, "</p>"),
        connect = connect,
        tools = summary.map_or_else(|_| SIGN_IN_FOR_TOOLS.to_owned(), |own| tools(own, endpoint.is_some())),
        script = SCRIPT,
    )
}

const UNKNOWN_ENDPOINT: &str = "<p class=\"notice\">The public URL of this server is not configured. It cannot show how \
     to connect, and rejects calls from web pages. The operator can set <code>MCP_PUBLIC_URL</code>.</p>";

const SIGN_IN_FOR_TOOLS: &str = "<section aria-labelledby=\"tools\"><h2 id=\"tools\">Tools</h2><p class=\"notice\">The tools of this \
     server are listed after sign-in.</p></section>";

fn access(summary: Result<&ServerSummary<'_>, &CallError>) -> &'static str {
    match summary {
        Err(_) => "<span>Sign-in required</span>",
        Ok(own) if own.tools.iter().any(|tool| tool.authorization_error.is_some()) => {
            "<span>Sign-in for some tools</span>"
        }
        Ok(own) if own.denies_other_items => "<span>Sign-in for some prompts or resources</span>",
        Ok(_) => "<span class=\"free\">No sign-in needed</span>",
    }
}

fn sign_in(issuers: &[&str]) -> String {
    fragment(|page| {
        for issuer in issuers {
            write!(page, "<p class=\"soft\">Clients sign in with <code>{}</code>.</p>", Escaped(issuer))?;
        }
        Ok(())
    })
}

/// Renders the instructions for each client. Sources of the links: cursor.com/docs/mcp/install-links;
/// code.visualstudio.com, "MCP developer guide"; claude.com/docs/connectors/building/directory-vs-custom.
fn connect(server: &str, url: &str, signs_in: bool) -> String {
    let name = shell_name(server);
    let cursor = json!({ "url": url });
    let vscode = json!({ "name": name, "type": "http", "url": url });
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let cursor_link = encoded(&BASE64_STANDARD.encode(cursor.to_string()));
    let file = |member: &str, entry: &Value| format!("{:#}", json!({ member: { &name: entry } }));
    format!(
        include_str!("connect.html"),
        url = Escaped(url),
        name = Escaped(&name),
        quoted = Escaped(&shell_quoted(url)),
        claude = format_args!(
            "https://claude.ai/customize/connectors?modal=add-custom-connector&amp;connectorName={name}&amp;connectorUrl={}",
            encoded(url)
        ),
        cursor = format_args!("cursor://anysphere.cursor-deeplink/mcp/install?name={name}&amp;config={cursor_link}"),
        vscode = format_args!("vscode:mcp/install?{}", encoded(&vscode.to_string())),
        chatgpt = if signs_in { "OAuth" } else { "No authentication" },
        cursor_file = Escaped(&file("mcpServers", &cursor)),
        vscode_file = Escaped(&file("servers", &json!({ "type": "http", "url": url }))),
    )
}

/// Converts the server's name to characters that are safe in shells, files and clients.
fn shell_name(server: &str) -> String {
    let name: String = server.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => "server".to_owned(),
        name => name.to_owned(),
    }
}

fn shell_quoted(url: &str) -> String {
    let is_plain = url.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/%".contains(c));
    if is_plain { url.to_owned() } else { format!("'{}'", url.replace('\'', r"'\''")) }
}

fn tools(summary: &ServerSummary<'_>, may_call: bool) -> String {
    if summary.tools.is_empty() {
        return String::new();
    }
    fragment(|page| {
        write!(page, "<section aria-labelledby=\"tools\"><h2 id=\"tools\">Tools</h2>")?;
        if may_call {
            write!(page, "<noscript><p class=\"soft\">Enable JavaScript to call tools from this page.</p></noscript>")?;
        }
        for (index, tool) in summary.tools.iter().enumerate() {
            write_tool(page, index, tool, may_call)?;
        }
        write!(page, "</section>")
    })
}

fn write_tool(page: &mut String, index: usize, tool: &ToolSummary<'_>, may_call: bool) -> fmt::Result {
    let own = tool.definition;
    let is_read_only = own.annotations.as_ref().and_then(|own| own.read_only_hint) == Some(true);
    write!(page, "<article class=\"tool\" aria-labelledby=\"tool{index}\">")?;
    let title = own.title.as_ref().unwrap_or(&own.name);
    write!(page, "<h3 id=\"tool{index}\">{}</h3><p><code>{}</code>", Escaped(title), Escaped(&own.name))?;
    if is_read_only {
        write!(page, " <span class=\"tag\">read-only</span>")?;
    }
    match &tool.authorization_error {
        Some(CallError::Unauthenticated { scopes }) if !scopes.is_empty() => {
            write!(page, " <span class=\"tag\">sign-in: {}</span>", Escaped(&scopes.join(" ")))?;
        }
        Some(_) => write!(page, " <span class=\"tag\">sign-in</span>")?,
        None => {}
    }
    write!(page, "</p>{}", Optional("<p>", own.description.as_deref().map(Escaped), "</p>"))?;
    let parameters = parameters(&own.input_schema);
    if may_call && is_read_only && tool.is_plain && tool.authorization_error.is_none() {
        write_form(page, index, &own.name, &parameters)?;
    } else if !parameters.is_empty() {
        write!(page, "<dl>")?;
        for parameter in &parameters {
            let description = Optional("<dd>", parameter.description().map(Escaped), "</dd>");
            write!(page, "<div><dt>{}</dt>{description}</div>", parameter.head())?;
        }
        write!(page, "</dl>")?;
    }
    write!(page, "</article>")
}

fn write_form(page: &mut String, index: usize, tool: &str, parameters: &[Parameter<'_>]) -> fmt::Result {
    write!(page, "<form id=\"form{index}\" autocomplete=\"off\">")?;
    for (number, parameter) in parameters.iter().enumerate() {
        let id = format!("field{index}-{number}");
        write!(page, "<div><label for=\"{id}\">{}", parameter.head())?;
        let description = parameter.description().map(Escaped);
        write!(page, "{}</label>", Optional(" <span>", description, "</span>"))?;
        parameter.write_control(page, &id, index)?;
        write!(page, "</div>")?;
    }
    let tool = Escaped(tool);
    write!(
        page,
        "<div><button type=\"submit\" id=\"form{index}-button\" data-tool=\"{tool}\" aria-label=\"Call {tool}\" disabled>\
         Call</button></div><output id=\"form{index}-output\"></output></form>"
    )
}

/// A property of a tool's input schema.
struct Parameter<'a> {
    name: &'a str,
    schema: &'a Value,
    is_required: bool,
}

fn parameters(schema: &Value) -> Vec<Parameter<'_>> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|own| own == name));
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let parameters = properties.map(|(name, schema)| Parameter { name, schema, is_required: is_required(name) });
    parameters.collect()
}

impl<'a> Parameter<'a> {
    fn description(&self) -> Option<&'a str> {
        self.schema.get("description").and_then(Value::as_str)
    }

    /// Returns the alternatives except `null`: an optional parameter is an `anyOf` of its type and `null`.
    fn alternatives(&self) -> impl Iterator<Item = &'a Value> {
        let alternatives = self.schema.get("anyOf").and_then(Value::as_array);
        let own = alternatives.is_none().then_some(self.schema);
        let is_some = |own: &&Value| own.get("type").is_none_or(|kind| kind != "null");
        own.into_iter().chain(alternatives.into_iter().flatten().filter(is_some))
    }

    /// Returns the type, if the schema has exactly one except `null`.
    fn kind(&self) -> Option<&'a str> {
        let mut alternatives = self.alternatives();
        let only = alternatives.next().filter(|_| alternatives.next().is_none())?;
        match only.get("type")? {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            kind => kind.as_str(),
        }
    }

    /// Returns the allowed values, if the schema lists them.
    fn choices(&self) -> Option<Vec<Value>> {
        let lists: Option<Vec<&Vec<Value>>> =
            self.alternatives().map(|own| own.get("enum").and_then(Value::as_array)).collect();
        lists.map(|lists| lists.into_iter().flatten().cloned().collect())
    }

    fn head(&self) -> String {
        let name = Escaped(self.name);
        let kind = Escaped(self.kind().unwrap_or("JSON"));
        let need = if self.is_required { "required" } else { "optional" };
        format!("<code>{name}</code> <span>{kind}, {need}</span>")
    }

    fn write_control(&self, page: &mut String, id: &str, form: usize) -> fmt::Result {
        let required = if self.is_required { " required" } else { "" };
        let name = Escaped(self.name);
        let attributes = format_args!(" id=\"{id}\" data-form=\"form{form}\" data-name=\"{name}\"{required}");
        let choices = match (self.choices(), self.kind()) {
            (Some(values), _) => values,
            (None, Some("boolean")) => vec![json!(true), json!(false)],
            (None, Some("string")) => return write!(page, "<input{attributes}>"),
            (None, Some("integer" | "number")) => {
                return write!(page, "<input{attributes} type=\"number\" step=\"any\" data-json=\"1\">");
            }
            (None, _) => return write!(page, "<textarea{attributes} data-json=\"1\" rows=\"3\"></textarea>"),
        };
        write!(page, "<select{attributes} data-json=\"1\"><option></option>")?;
        for choice in choices {
            let text = choice.to_string();
            let shown = choice.as_str().unwrap_or(&text);
            write!(page, "<option value=\"{}\">{}</option>", Escaped(&text), Escaped(shown))?;
        }
        write!(page, "</select>")
    }
}

/// Text escaped for HTML elements and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|own| match own {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            own => f.write_char(own),
        })
    }
}

/// Optional text with its surrounding markup; empty without a text.
struct Optional<'a>(&'a str, Option<Escaped<'a>>, &'a str);

impl Display for Optional<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(before, Some(text), after) => write!(f, "{before}{text}{after}"),
            Self(_, None, _) => Ok(()),
        }
    }
}

fn fragment(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut page);
    page
}
