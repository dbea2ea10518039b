//! Options of the commands that use a server: sign-in, headers, timeouts and state.

mod assertion;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use self::assertion::AssertionArgs;
use crate::{
    authorizer::{Authorizer, TokenCommand},
    callback::CallbackHost,
    command_line::{self, UsageError},
    endpoint, network,
    oauth::{Browser, OAuth, OAuthOptions, PrivateKey, ResourceParameter, SigningAlgorithm, TokenType},
    output::print,
    session::Session,
    sigv4::Signer,
    store::{self, Registration, Store},
    upstream::Upstream,
};

/// The heading of options that are not for signing in.
const CONNECTION: &str = "Connection";
const SECRET_VARIABLE: &str = "MCPL_CLIENT_SECRET";
/// Timeout in seconds: the maximum run time of a function.
const USUAL_TIMEOUT: u64 = 900;
/// Timeout of a list in seconds.
const USUAL_LIST_TIMEOUT: u64 = 60;

/// Options of the connection and the sign-in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sign-in")]
pub(crate) struct Connection {
    /// The client's id at the issuer, where clients are registered by hand.
    #[arg(long, env = "MCPL_CLIENT_ID")]
    client_id: Option<String>,
    /// The client's secret. Other users of this machine can read arguments: prefer the variable, --client-secret-file or --ask-client-secret.
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true)]
    client_secret: Option<String>,
    /// A file that holds the client's secret.
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// Ask for the client's secret on the terminal.
    #[arg(long, requires = "client_id", conflicts_with = "client_secret_file")]
    ask_client_secret: bool,
    /// A file that holds the client's private key (PEM, PKCS #8), in place of a secret: the client signs an assertion (RFC 7523).
    #[arg(long, value_name = "FILE", requires = "client_credentials")]
    private_key: Option<PathBuf>,
    /// The algorithm of the client's signatures.
    #[arg(long, value_enum, requires = "private_key", default_value = "ES256")]
    signing_algorithm: SigningAlgorithm,
    /// The URL of a client ID metadata document that describes this client.
    #[arg(long)]
    client_metadata_url: Option<String>,
    /// A scope to request in place of those that the server names; may be repeated. Scopes that a later request lacks are added.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Request tokens for the client itself (client credentials), without a sign-in. Needs its id, and its secret or private key.
    #[arg(long, requires = "client_id", conflicts_with = "assertion")]
    client_credentials: bool,
    #[command(flatten)]
    assertion: AssertionArgs,
    /// Which token to send; the ID token if the issuer is Google, else the access token.
    #[arg(long, value_enum)]
    token_type: Option<TokenType>,
    /// The parameter `resource` of token requests; by default that of the server's metadata.
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Leave the parameter `resource` out, for an issuer that rejects it.
    #[arg(long, conflicts_with = "resource")]
    no_resource: bool,
    /// Sign in although the issuer's metadata does not list PKCE with S256, for an issuer that supports it.
    #[arg(long)]
    assume_pkce: bool,
    /// The port of the redirect URI on 127.0.0.1; by default a free one. mcpl waits while the port is taken.
    #[arg(long, default_value_t = 0)]
    callback_port: u16,
    /// The host of the redirect URI, as it is registered at the issuer.
    #[arg(long, value_enum, default_value = "127.0.0.1")]
    callback_host: CallbackHost,
    /// The command that opens the sign-in page; the URL is appended. By default BROWSER, or the platform's browser.
    #[arg(long, conflicts_with = "no_browser")]
    open: Option<String>,
    /// Only print the address of the sign-in page, on standard error. The address of the final redirect can be pasted
    /// there, except on Windows.
    #[arg(long)]
    no_browser: bool,
    /// A command that prints a token, in place of a sign-in.
    #[arg(long, conflicts_with = "assertion")]
    token_command: Option<String>,
    /// Sign requests with AWS credentials, for a URL with AuthType AWS_IAM.
    #[arg(long, conflicts_with_all = ["token_command", "assertion"])]
    sigv4: bool,
    /// The region of the signature, if the URL has none; by default AWS_REGION.
    #[arg(long, requires = "sigv4")]
    region: Option<String>,
    /// A header to send with every request, such as "Authorization: Bearer …"; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = CONNECTION)]
    headers: Vec<String>,
    /// A header whose value is that of a variable, such as X-API-Key=MY_KEY; may be repeated.
    #[arg(long, value_name = "NAME=VARIABLE", help_heading = CONNECTION)]
    header_env: Vec<String>,
    /// A header whose value is in a file, such as X-API-Key=/run/secrets/key; may be repeated.
    #[arg(long, value_name = "NAME=FILE", help_heading = CONNECTION)]
    header_file: Vec<String>,
    /// The timeout of a response in seconds; by default 900, and 60 for a list of tools, resources or prompts.
    #[arg(long, value_name = "SECONDS", help_heading = CONNECTION)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// The folder for tokens, in place of the platform's folder and keychain.
    #[arg(long, env = "MCPL_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

impl Connection {
    pub(crate) async fn session(&self, url: String) -> anyhow::Result<Session> {
        if self.sigv4 {
            // Missing credentials are reported before a connection is tried.
            self.signer(&endpoint::parse(&url)?)?.check().await?;
        }
        Session::start(self.upstream(url)?).await
    }

    pub(crate) fn upstream(&self, url: String) -> anyhow::Result<Upstream> {
        let url = endpoint::parse(&url)?;
        let (headers, authorizer) = (self.headers()?, self.authorizer(&url)?);
        let client = network::client(&url, headers, self.timeout())?;
        let upstream = Upstream::new(client, self.timeout(), url, authorizer);
        Ok(upstream.with_list_patience(self.list_timeout()))
    }

    /// The authentication of requests.
    pub(crate) fn authorizer(&self, url: &str) -> anyhow::Result<Authorizer> {
        let headers = self.headers()?;
        for (option, command) in [("--token-command", &self.token_command), ("--open", &self.open)] {
            if let Some(command) = command {
                command_line::split(command).with_context(|| format!("could not read `{option}`"))?;
            }
        }
        Ok(match &self.token_command {
            Some(command) => Authorizer::Command(TokenCommand::new(command.clone(), self.timeout())),
            None if self.sigv4 => Authorizer::SigV4(Box::new(self.signer(url)?)),
            None if headers.contains_key(AUTHORIZATION) => Authorizer::Headers,
            None => Authorizer::OAuth(Box::new(OAuth::new(url, self.oauth_options(headers)?)?)),
        })
    }

    fn signer(&self, url: &str) -> anyhow::Result<Signer> {
        Signer::of(url, self.region.clone().or_else(|| variable("AWS_REGION")))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(USUAL_TIMEOUT))
    }

    /// The timeout of a request for a list.
    pub(crate) fn list_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(USUAL_LIST_TIMEOUT))
    }

    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// The configured headers, from options, variables and files.
    pub(crate) fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| UsageError::new("`--header` is written NAME: VALUE"))?;
            add_header(&mut headers, name, value)?;
        }
        for header in &self.header_env {
            let (name, variable_name) =
                header.split_once('=').ok_or_else(|| UsageError::new("`--header-env` is written NAME=VARIABLE"))?;
            let value =
                variable(variable_name).with_context(|| format!("`--header-env`: {variable_name} is not set"))?;
            add_header(&mut headers, name, &value)?;
        }
        for header in &self.header_file {
            let (name, file) =
                header.split_once('=').ok_or_else(|| UsageError::new("`--header-file` is written NAME=FILE"))?;
            add_header(&mut headers, name, &read(Path::new(file))?)?;
        }
        Ok(headers)
    }

    fn oauth_options(&self, headers: HeaderMap) -> anyhow::Result<OAuthOptions> {
        let private_key = match &self.private_key {
            Some(file) => Some(PrivateKey { pem: read(file)?, algorithm: self.signing_algorithm }),
            None => None,
        };
        Ok(OAuthOptions {
            client_id: self.client_id.clone(),
            client_secret: self.secret()?,
            private_key,
            client_metadata_url: self.client_metadata_url.clone(),
            scopes: self.scopes.clone(),
            client_credentials: self.client_credentials,
            assertion: self.assertion.options()?,
            token_type: self.token_type,
            resource: match &self.resource {
                _ if self.no_resource => ResourceParameter::LeftOut,
                Some(resource) => ResourceParameter::Other(resource.clone()),
                None => ResourceParameter::OfServer,
            },
            assume_pkce: self.assume_pkce,
            callback_host: self.callback_host,
            callback_port: self.callback_port,
            browser: match &self.open {
                _ if self.no_browser => Browser::LeftOut,
                Some(command) => Browser::Command(command.clone()),
                None => variable("BROWSER").map_or(Browser::Usual, Browser::Command),
            },
            state_dir: self.state_dir.clone(),
            headers,
            timeout: Some(self.timeout()),
        })
    }

    /// The client's secret, from an option, a file or the terminal.
    fn secret(&self) -> anyhow::Result<Option<String>> {
        if let Some(file) = &self.client_secret_file {
            let secret = read(file)?.trim().to_owned();
            if secret.is_empty() {
                bail!("`--client-secret-file`: {} is empty", file.display());
            }
            return Ok(Some(secret));
        }
        if self.ask_client_secret {
            let asked = rpassword::prompt_password("Client secret: ");
            return Ok(Some(asked.context("there is no terminal to ask for the client's secret on")?));
        }
        let given = self.client_secret.clone().filter(|secret| !secret.is_empty());
        if given.is_some() && variable(SECRET_VARIABLE).is_none() {
            tracing::warn!(
                "others on this machine can read the client secret: put it into {SECRET_VARIABLE}, or let \
                 `--ask-client-secret` ask for it"
            );
        }
        Ok(given)
    }

    /// Checks that requests are authenticated by tokens of OAuth.
    ///
    /// # Errors
    ///
    /// When an option authenticates them in another way.
    pub(crate) fn check_sign_in(&self) -> anyhow::Result<()> {
        let option = match (&self.token_command, self.sigv4, self.has_authorization_header()) {
            (Some(_), _, _) => "--token-command",
            (None, true, _) => "--sigv4",
            (None, false, true) => "a header `Authorization`",
            (None, false, false) => return Ok(()),
        };
        bail!(UsageError::new(format!("there is no sign-in with {option}: leave one of them out")))
    }

    fn has_authorization_header(&self) -> bool {
        let is_authorization = |header: &String| header.trim().to_ascii_lowercase().starts_with("authorization");
        self.headers.iter().chain(&self.header_env).chain(&self.header_file).any(is_authorization)
    }

    /// Whether requests need a sign-in: then `mcpl` keeps tokens, which programs that start `mcpl proxy` use.
    pub(crate) fn needs_sign_in(&self) -> bool {
        self.token_command.is_none()
            && !self.sigv4
            && !self.client_credentials
            && !self.assertion.is_some()
            && !self.has_authorization_header()
    }

    /// The options for an entry in another program's configuration: no secrets, and nothing about this run alone.
    pub(crate) fn kept_options(&self) -> anyhow::Result<Vec<String>> {
        let mut kept = Vec::new();
        let mut keep = |name: &str, value: &str| kept.extend([name.to_owned(), value.to_owned()]);
        if let Some(client_id) = &self.client_id {
            keep("--client-id", client_id);
        }
        self.scopes.iter().for_each(|scope| keep("--scope", scope));
        if self.callback_port != 0 {
            keep("--callback-port", &self.callback_port.to_string());
        }
        if self.callback_host != CallbackHost::default() {
            keep("--callback-host", &name_of(self.callback_host));
        }
        self.header_env.iter().for_each(|header| keep("--header-env", header));
        for header in &self.header_file {
            let (name, file) =
                header.split_once('=').ok_or_else(|| UsageError::new("`--header-file` is written NAME=FILE"))?;
            keep("--header-file", &format!("{name}={}", absolute(Path::new(file))?));
        }
        for (name, value) in [
            ("--client-metadata-url", &self.client_metadata_url),
            ("--resource", &self.resource),
            ("--open", &self.open),
            ("--token-command", &self.token_command),
            ("--region", &self.region),
        ] {
            if let Some(value) = value {
                keep(name, value);
            }
        }
        for (name, file) in [("--client-secret-file", &self.client_secret_file), ("--private-key", &self.private_key)] {
            if let Some(file) = file {
                keep(name, &absolute(file)?);
            }
        }
        for (name, value) in self.assertion.kept()? {
            keep(name, &value);
        }
        if self.private_key.is_some() {
            keep("--signing-algorithm", &name_of(self.signing_algorithm));
        }
        if let Some(token_type) = self.token_type {
            keep("--token-type", &name_of(token_type));
        }
        for (name, is_set) in [
            ("--client-credentials", self.client_credentials),
            ("--no-resource", self.no_resource),
            ("--assume-pkce", self.assume_pkce),
            ("--no-browser", self.no_browser),
            ("--sigv4", self.sigv4),
        ] {
            if is_set {
                kept.push(name.to_owned());
            }
        }
        if !self.headers.is_empty() {
            bail!(UsageError::new(
                "`--header` may be secret, and is written into no configuration: use `--header-env`, `--header-file` or \
                 `--token-command`"
            ));
        }
        Ok(kept)
    }

    /// The options for an entry that by themselves do not require `mcpl proxy`: the state folder, and the timeout,
    /// for which other programs have settings of their own.
    pub(crate) fn kept_proxy_options(&self) -> anyhow::Result<Vec<String>> {
        let mut kept = Vec::new();
        if let Some(timeout) = self.timeout {
            kept.extend(["--timeout".to_owned(), timeout.to_string()]);
        }
        if let Some(folder) = self.lasting_state_dir() {
            kept.extend(["--state-dir".to_owned(), absolute(&folder)?]);
        }
        Ok(kept)
    }

    /// The state folder for programs without this shell's variables; `None` if it is the usual one.
    fn lasting_state_dir(&self) -> Option<PathBuf> {
        self.state_dir.clone().or_else(store::folder_of_variable)
    }

    /// Keeps the client's secret for the programs that start `mcpl proxy`, in whose configuration it is not written.
    pub(crate) fn keep_secret(&self, url: &str) -> anyhow::Result<()> {
        let Some(client_id) = self.client_id.as_ref().filter(|_| self.client_secret_file.is_none()) else {
            return Ok(());
        };
        let Some(client_secret) = self.secret()? else { return Ok(()) };
        let store = Store::of(url, self.lasting_state_dir().as_deref())?;
        store.keep_registration(Registration::given(client_id.clone(), Some(client_secret)))?;
        print(&format!("the client's secret is kept in {}", store.place()));
        Ok(())
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))
}

/// The absolute path, independent of a program's working directory.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).context("this folder is not known")?;
    path.into_os_string().into_string().ok().context("a path is not Unicode")
}

/// A variable that is set to something. Those with flags of the same meaning are read here rather than by the parser, for
/// which they would contradict other flags.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> anyhow::Result<()> {
    let name = name.trim();
    let parsed = HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("`{name}` is no header's name"))?;
    let value = HeaderValue::from_str(value.trim());
    let mut value = value.with_context(|| format!("the value of the header {name} is none that a header can have"))?;
    value.set_sensitive(true);
    headers.append(parsed, value);
    Ok(())
}

/// The name of a value on the command line.
fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Own {
        #[command(flatten)]
        connection: Connection,
    }

    #[test]
    fn a_list_has_a_shorter_timeout_unless_one_is_given() {
        let timeouts = |words: &[&str]| {
            let own = Own::parse_from([&["mcpl"], words].concat()).connection;
            (own.list_timeout().as_secs(), own.timeout().as_secs())
        };
        assert_eq!(timeouts(&[]), (60, 900));
        assert_eq!(timeouts(&["--timeout", "300"]), (300, 300));
    }
}
