//! `mcpl`: connects clients that speak stdio to MCP servers behind Function URLs.

mod bridge;
mod call;
mod callback;
mod doctor;
mod headers;
mod install;
mod message;
mod oauth;
mod proxy;
mod session;
mod sigv4;
mod store;
mod tools;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    install::Apps,
    oauth::{Authorizer, Browser, OAuthOptions, TokenType},
    session::Session,
    sigv4::Signer,
    upstream::Upstream,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For each step of an examination.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects clients that speak stdio to MCP servers behind Function URLs.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on standard error; twice for what is sent and received there.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stand between a client on standard input and output and a server at a URL.
    ///
    /// A client starts it, for example Claude Desktop by the entry
    /// {"mcpServers": {"greeter": {"command": "mcpl", "args": ["proxy", "greeter", "https://…/mcp"]}}}.
    /// If the server wants to know who calls, the sign-in page is opened in a browser.
    Proxy(Box<ProxyArgs>),
    /// Find out what would stop clients from using a server.
    ///
    /// Walks the way that they walk, without signing in and without calling a tool. Ends with 1 if something would stop them.
    Doctor {
        /// The URL of the MCP endpoint.
        url: String,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the tools of a server.
    Tools {
        /// The URL of the MCP endpoint.
        url: String,
        /// Print them as JSON, as the server says it.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Call a tool of a server, for example `mcpl call URL personalized_greeting name=Ada`.
    ///
    /// Ends with 1 if the tool failed.
    Call {
        /// The URL of the MCP endpoint.
        url: String,
        /// The tool's name.
        tool: String,
        /// Its arguments; what is no text is written as JSON.
        #[arg(value_name = "NAME=VALUE")]
        arguments: Vec<String>,
        /// Print the result as JSON, as the server says it.
        #[arg(long)]
        json: bool,
        /// Where images and other files are saved.
        #[arg(long, default_value = ".")]
        save_to: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Write a server's entry into the configuration of programs that use it.
    ///
    /// Programs that speak HTTP get the URL, the others this command. The change is shown before it is made.
    Install {
        /// What the server is called there.
        name: String,
        /// The URL of the MCP endpoint.
        url: String,
        #[command(flatten)]
        apps: Apps,
    },
    /// Take a server's entry out again.
    Uninstall {
        /// What the server is called there.
        name: String,
        #[command(flatten)]
        apps: Apps,
    },
}

#[derive(Debug, Args)]
struct ProxyArgs {
    /// What the server is called at the client; for people.
    name: String,
    /// The URL of the MCP endpoint.
    url: String,
    /// How the server is spoken to. `http` is the only one.
    #[arg(long, default_value = "http")]
    mode: String,
    #[command(flatten)]
    connection: Connection,
    /// With the name of a program: write the entry by which it starts this, as `mcpl install` does.
    #[command(flatten)]
    apps: Apps,
}

/// How a server is reached, and by whom.
#[derive(Debug, Args)]
struct Connection {
    /// The client's id at the issuer, where clients are registered by hand.
    #[arg(long, env = "MCPL_CLIENT_ID")]
    client_id: Option<String>,
    /// The client's secret. Others on this machine can read arguments: prefer the variable.
    #[arg(long, env = "MCPL_CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<String>,
    /// The URL of a client id metadata document that names this client.
    #[arg(long)]
    client_metadata_url: Option<String>,
    /// A scope to ask for besides what the server wants; may be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Get tokens for the client itself: nobody signs in. Needs its id and secret.
    #[arg(long, requires = "client_id")]
    client_credentials: bool,
    /// Which token to send; the ID token if the issuer is Google, else the access token.
    #[arg(long, value_enum)]
    token_type: Option<TokenType>,
    /// The port on 127.0.0.1 that the browser is sent back to; a free one unless given.
    #[arg(long, default_value_t = 0)]
    callback_port: u16,
    /// The command that opens the sign-in page, to which the URL is added; BROWSER, or what the platform has, unless given.
    #[arg(long, conflicts_with = "no_browser")]
    open: Option<String>,
    /// Only print the address of the sign-in page, on standard error.
    #[arg(long)]
    no_browser: bool,
    /// A command that prints a token, for machines without a person.
    #[arg(long)]
    token_command: Option<String>,
    /// Sign requests with AWS credentials, for a URL with AuthType AWS_IAM.
    #[arg(long, conflicts_with = "token_command")]
    sigv4: bool,
    /// The region to sign for, where the URL does not say it; AWS_REGION unless given.
    #[arg(long, requires = "sigv4")]
    region: Option<String>,
    /// A header to send with every request, such as "Authorization: Bearer …"; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Seconds that an answer may take.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Where tokens are kept.
    #[arg(long, env = "MCPL_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logs(cli.verbose);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "could not start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended: anyhow::Result<ExitCode> = runtime.block_on(async {
        match cli.command {
            Command::Proxy(args) if args.apps.is_some() => {
                install::install(&args.name, &args.url, &args.apps, &args.kept_options())
            }
            Command::Proxy(args) => proxy(*args).await,
            Command::Doctor { url, json } => {
                let client = http_client(HeaderMap::new(), DOCTOR_TIMEOUT)?;
                if !doctor::run(client, &url, json).await? {
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Tools { url, json, connection } => {
                let mut session = connection.session(url).await?;
                let listed = call::list(&mut session, json).await;
                session.close().await;
                listed
            }
            Command::Call { url, tool, arguments, json, save_to, connection } => {
                let mut session = connection.session(url).await?;
                let called = call::call(&mut session, &tool, &arguments, &save_to, json).await;
                session.close().await;
                if !called? {
                    // The tool has said why.
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Install { name, url, apps } => install::install(&name, &url, &apps, &[]),
            Command::Uninstall { name, apps } => install::uninstall(&name, &apps),
        }
        .map(|()| ExitCode::SUCCESS)
    });
    // Standard input may still be read, by a thread that nothing ends.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl ProxyArgs {
    /// What an entry in another program's configuration keeps of these: no secret, and nothing about this run alone.
    fn kept_options(&self) -> Vec<String> {
        if self.connection.client_secret.is_some() {
            tracing::warn!("the client secret is written nowhere: set MCPL_CLIENT_SECRET where the program is started");
        }
        let mut kept = Vec::new();
        let mut keep = |name: &str, value: &str| kept.extend([name.to_owned(), value.to_owned()]);
        if let Some(client_id) = &self.connection.client_id {
            keep("--client-id", client_id);
        }
        self.connection.scopes.iter().for_each(|scope| keep("--scope", scope));
        if self.connection.callback_port != 0 {
            keep("--callback-port", &self.connection.callback_port.to_string());
        }
        for (name, value) in [
            ("--client-metadata-url", &self.connection.client_metadata_url),
            ("--open", &self.connection.open),
            ("--token-command", &self.connection.token_command),
            ("--region", &self.connection.region),
        ] {
            if let Some(value) = value {
                keep(name, value);
            }
        }
        if let Some(token_type) = self.connection.token_type.and_then(|own| own.to_possible_value()) {
            keep("--token-type", token_type.get_name());
        }
        for (name, is_set) in [
            ("--client-credentials", self.connection.client_credentials),
            ("--no-browser", self.connection.no_browser),
            ("--sigv4", self.connection.sigv4),
        ] {
            if is_set {
                kept.push(name.to_owned());
            }
        }
        if !self.connection.headers.is_empty() {
            tracing::warn!(
                "headers are written nowhere, since they may be secret: let `--token-command` print a token"
            );
        }
        kept
    }
}

async fn proxy(args: ProxyArgs) -> anyhow::Result<()> {
    match args.mode.as_str() {
        "http" => {}
        "sse" => bail!("`--mode sse` is a transport of 2024 that servers here do not have: leave `--mode` out"),
        other => bail!("`--mode {other}` is not known: leave it out"),
    }
    tracing::info!(server = args.name, url = args.url, "ready");
    let upstream = args.connection.upstream(args.url)?;
    proxy::run(upstream).await
}

impl Connection {
    async fn session(&self, url: String) -> anyhow::Result<Session> {
        Session::start(self.upstream(url)?).await
    }

    fn upstream(&self, url: String) -> anyhow::Result<Upstream> {
        if !oauth::is_secure(&url) {
            bail!("`{url}` must be https (http on this machine)");
        }
        if self.client_secret.is_some() && std::env::var_os("MCPL_CLIENT_SECRET").is_none() {
            tracing::warn!("others on this machine can read the client secret: put it into MCPL_CLIENT_SECRET instead");
        }
        let headers = headers(&self.headers)?;
        let authorizer = match &self.token_command {
            Some(command) => Authorizer::Command { command: command.clone(), token: tokio::sync::Mutex::default() },
            None if self.sigv4 => {
                Authorizer::SigV4(Box::new(Signer::of(&url, self.region.clone().or_else(|| variable("AWS_REGION")))?))
            }
            None if headers.contains_key(AUTHORIZATION) => Authorizer::Nobody,
            None => Authorizer::oauth(&url, self.oauth_options())?,
        };
        let client = http_client(headers, Duration::from_secs(self.timeout))?;
        Ok(Upstream::new(client, url, authorizer))
    }

    fn oauth_options(&self) -> OAuthOptions {
        OAuthOptions {
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            client_metadata_url: self.client_metadata_url.clone(),
            scopes: self.scopes.clone(),
            client_credentials: self.client_credentials,
            token_type: self.token_type,
            callback_port: self.callback_port,
            browser: match &self.open {
                _ if self.no_browser => Browser::Nobody,
                Some(command) => Browser::Command(command.clone()),
                None => variable("BROWSER").map_or(Browser::Usual, Browser::Command),
            },
            state_dir: self.state_dir.clone(),
        }
    }
}

/// A variable that is set to something. Those with flags of the same meaning are read here rather than by the parser, for
/// which they would contradict other flags.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn http_client(headers: HeaderMap, timeout: Duration) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        // A token would be shown to whomever a redirect leads to.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("mcpl/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("could not set up HTTP")
}

fn headers(given: &[String]) -> anyhow::Result<HeaderMap> {
    let parsed = given.iter().map(|header| {
        let (name, value) = header.split_once(':').context("`--header` is written NAME: VALUE")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).context("`--header` has no header's name")?;
        let mut value =
            HeaderValue::from_str(value.trim()).context("`--header` has a value that no header can have")?;
        value.set_sensitive(true);
        Ok((name, value))
    });
    parsed.collect()
}

/// On standard error: standard output is the client's.
fn init_logs(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // At more than info the library prints authorization codes.
    let targets = Targets::new().with_default(level).with_target("rmcp", level.min(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).without_time();
    tracing_subscriber::registry().with(lines).with(targets).init();
}
