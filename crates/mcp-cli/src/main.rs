//! `mcpl`: connects clients that speak stdio to MCP servers behind Function URLs.

mod callback;
mod headers;
mod install;
mod message;
mod oauth;
mod proxy;
mod store;
mod tools;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use crate::{
    install::Apps,
    oauth::{Authorizer, Browser, OAuthOptions, TokenType},
    upstream::Upstream,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The client's id at the issuer, where clients are registered by hand.
    #[arg(long, env = "MCPL_CLIENT_ID")]
    client_id: Option<String>,
    /// The client's secret. Others on this machine can read arguments: prefer the variable.
    #[arg(long, env = "MCPL_CLIENT_SECRET", hide_env_values = true, requires = "client_id")]
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
    /// The command that opens the sign-in page; the URL is added to it.
    #[arg(long, env = "BROWSER", conflicts_with = "no_browser")]
    open: Option<String>,
    /// Only print the address of the sign-in page, on standard error.
    #[arg(long)]
    no_browser: bool,
    /// A command that prints a token, for machines without a person.
    #[arg(long)]
    token_command: Option<String>,
    /// A header to send with every request, such as "Authorization: Bearer …"; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Seconds that an answer may take.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Where tokens are kept.
    #[arg(long, env = "MCPL_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// With the name of a program: write the entry by which it starts this, as `mcpl install` does.
    #[command(flatten)]
    apps: Apps,
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
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Proxy(args) if args.apps.is_some() => {
                install::install(&args.name, &args.url, &args.apps, &args.kept_options())
            }
            Command::Proxy(args) => proxy(*args).await,
            Command::Install { name, url, apps } => install::install(&name, &url, &apps, &[]),
            Command::Uninstall { name, apps } => install::uninstall(&name, &apps),
        }
    });
    // Standard input may still be read, by a thread that nothing ends.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl ProxyArgs {
    /// What an entry in another program's configuration keeps of these: no secret, and nothing about this run alone.
    fn kept_options(&self) -> Vec<String> {
        if self.client_secret.is_some() {
            tracing::warn!("the client secret is written nowhere: set MCPL_CLIENT_SECRET where the program is started");
        }
        let mut kept = Vec::new();
        let mut keep = |name: &str, value: &str| kept.extend([name.to_owned(), value.to_owned()]);
        if let Some(client_id) = &self.client_id {
            keep("--client-id", client_id);
        }
        self.scopes.iter().for_each(|scope| keep("--scope", scope));
        if self.callback_port != 0 {
            keep("--callback-port", &self.callback_port.to_string());
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
    if args.client_secret.is_some() && std::env::var_os("MCPL_CLIENT_SECRET").is_none() {
        tracing::warn!("others on this machine can read the client secret: put it into MCPL_CLIENT_SECRET instead");
    }
    let headers = headers(&args.headers)?;
    let authorizer = match &args.token_command {
        Some(command) => Authorizer::Command { command: command.clone(), token: tokio::sync::Mutex::default() },
        None if headers.contains_key(AUTHORIZATION) => Authorizer::Nobody,
        None => Authorizer::oauth(&args.url, oauth_options(&args))?,
    };
    let client = reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(Duration::from_secs(args.timeout))
        // A token would be shown to whomever a redirect leads to.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("mcpl/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("could not set up HTTP")?;
    tracing::info!(server = args.name, url = args.url, "ready");
    let (sender, output) = mpsc::unbounded_channel();
    proxy::run(Upstream::new(client, args.url, authorizer, sender), output).await
}

fn oauth_options(args: &ProxyArgs) -> OAuthOptions {
    OAuthOptions {
        client_id: args.client_id.clone(),
        client_secret: args.client_secret.clone(),
        client_metadata_url: args.client_metadata_url.clone(),
        scopes: args.scopes.clone(),
        client_credentials: args.client_credentials,
        token_type: args.token_type,
        callback_port: args.callback_port,
        browser: match &args.open {
            _ if args.no_browser => Browser::Nobody,
            Some(command) => Browser::Command(command.clone()),
            None => Browser::Usual,
        },
        state_dir: args.state_dir.clone(),
    }
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
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
}
