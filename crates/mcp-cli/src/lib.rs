//! The command `mcpl`. The library is for `main` and the fuzz targets; it has no stable interface.

mod arguments;
mod authorizer;
mod bridge;
mod call;
mod callback;
mod challenge;
mod command_line;
mod connection;
mod contract;
mod described;
mod doctor;
mod endpoint;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod install;
mod interruption;
mod json_text;
mod keychain;
mod login;
mod message;
mod network;
mod oauth;
mod output;
mod proxy;
mod question;
mod received;
mod server_error;
mod session;
mod sigv4;
mod store;
mod task;
mod tools;
mod upstream;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    command_line::UsageError,
    connection::Connection,
    install::{Apps, Installation},
    interruption::{Interruption, interrupted},
    network::user_agent,
    output::{LogWriter, print},
    session::Session,
    task::TaskCommand,
};

const EXAMPLES: &str = "\
Examples:
  mcpl doctor URL                                   check a server the way clients connect
  mcpl call URL personalized_greeting name=Ada      call a tool
  mcpl read URL notes://today                       read a resource
  mcpl login URL                                    sign in before a program uses the server
  mcpl install greeter URL --claude --cursor        let programs use the server
  mcpl install events URL --claude --client-id ID --ask-client-secret
                                                    … with a client that is registered by hand
  mcpl proxy greeter URL                            the bridge that such a program starts

Exit codes: 0 done; 1 the tool, the request or the command failed; 2 the command line is wrong; 130 interrupted by Ctrl-C,
143 terminated.";

const NOT_PRINTED: &str = "could not write to standard output";

/// Use remote MCP servers from any client and from the command line.
#[derive(Debug, Parser)]
#[command(name = "mcpl", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON: the server's result, or {"source": "server" or "mcpl", "error": …}. For `doctor`, `logins` and the
    /// commands that use a server.
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Log the steps on standard error, such as those of a sign-in; given twice, also each request. Tokens and contents are not logged.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bridge a client that speaks stdio to a server at a URL.
    ///
    /// A client starts it, for example Claude Desktop by the entry
    /// {"mcpServers": {"greeter": {"command": "mcpl", "args": ["proxy", "greeter", "https://…/mcp"]}}}.
    /// If the server requires a sign-in, the sign-in page is opened in a browser.
    ///
    /// With the option of a program, such as --claude, the bridge is not started: the program's configuration is changed, as by
    /// `mcpl install`.
    Proxy(Box<ProxyArgs>),
    /// Check a server the way clients connect, and report each problem with its fix.
    ///
    /// Does not sign in and calls no tool. Also checks this machine: proxies,
    /// certificates, clock and tokens. Sends a token that is kept or given by an option. The exit code is 1 if there is a problem.
    /// With --json it prints a list of objects with `check`, `level` (ok, note or problem), `found`, and for notes and problems
    /// `clients` and `fix`.
    Doctor {
        /// The URL of the MCP endpoint.
        url: String,
        #[command(flatten)]
        connection: Box<Connection>,
    },
    /// List the tools of a server, or show one with its parameters.
    Tools {
        #[command(flatten)]
        server: ServerArgs,
        /// The name of a tool: its parameters are shown with their types, choices, bounds, defaults and descriptions.
        #[arg(help_heading = None)]
        tool: Option<String>,
    },
    /// Call a tool of a server, for example `mcpl call URL personalized_greeting name=Ada`.
    ///
    /// The exit code is 1 if the tool failed. The server's questions (elicitation) are asked at the terminal. If the call becomes a
    /// task, its status is shown until it ends, and Ctrl-C cancels it.
    Call {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        call: call::ToolCall,
    },
    /// Show, continue or cancel a task: a call that the server goes on with, such as one of `mcpl call --detach`.
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// List the resources and resource templates of a server.
    Resources {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Read a resource of a server.
    ///
    /// Into a pipe or a file the resource is written unchanged, such as `mcpl read URL URI > image.png`.
    Read {
        #[command(flatten)]
        server: ServerArgs,
        /// The URI of the resource.
        #[arg(help_heading = None)]
        uri: String,
        /// The folder in which binary contents are saved, also if the output is a pipe; at a terminal the current folder. It must exist.
        #[arg(long, value_name = "FOLDER", help_heading = None)]
        save_to: Option<PathBuf>,
    },
    /// List the prompts of a server.
    Prompts {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Print the messages of a prompt.
    Prompt {
        #[command(flatten)]
        server: ServerArgs,
        /// The prompt's name.
        #[arg(help_heading = None)]
        prompt: String,
        /// Its arguments, written like those of `mcpl call`; all are text.
        #[arg(value_name = "NAME=VALUE", help_heading = None)]
        arguments: Vec<String>,
        /// The folder in which images and other files are saved. It must exist.
        #[arg(long, value_name = "FOLDER", default_value = ".", help_heading = None)]
        save_to: PathBuf,
    },
    /// Compare the contract of a server with a file, or print it.
    Contract {
        #[command(subcommand)]
        command: contract::ContractCommand,
    },
    /// Connect programs to a server: write its entry into their configuration.
    ///
    /// Programs that support Streamable HTTP get the URL, the others `mcpl proxy`. The change is printed.
    Install {
        /// The name of the server's entry.
        name: String,
        /// The URL of the MCP endpoint.
        url: String,
        #[command(flatten)]
        connection: Box<Connection>,
        #[command(flatten, next_help_heading = "Programs")]
        installation: Installation,
    },
    /// Remove a server's entry from the configuration of programs.
    Uninstall {
        /// The name of the server's entry.
        name: String,
        #[command(flatten)]
        apps: Apps,
    },
    /// Sign in to a server ahead of time, for programs that start `mcpl proxy`.
    ///
    /// Give the options for signing in that the program's entry has. Without effect if a valid token is kept. Where a server names
    /// its issuer only when a tool is called, `mcpl call` signs in.
    Login {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List the servers for which a sign-in or a client is kept.
    Logins {
        /// The folder for tokens, in place of the platform's folder.
        #[arg(long, env = "MCPL_STATE_DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Revoke the tokens of a server, and remove them and the registration of the client.
    ///
    /// The exit code is 1 if nothing is kept for the server. A failed revocation is a warning.
    #[command(visible_alias = "logout")]
    Forget {
        /// The URL of the MCP endpoint.
        url: String,
        /// The folder for tokens, in place of the platform's folder.
        #[arg(long, env = "MCPL_STATE_DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Print the completion script of a shell.
    ///
    /// For example `mcpl completions bash > ~/.local/share/bash-completion/completions/mcpl`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages, one per command, into a folder such as ~/.local/share/man/man1.
    Man {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

/// The server of a command.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The URL of the MCP endpoint.
    url: String,
    #[command(flatten)]
    connection: Box<Connection>,
}

impl ServerArgs {
    /// Runs a function in a session and ends the session. An interrupted request is cancelled at the server.
    async fn with_session<T>(&self, use_it: impl AsyncFnOnce(&mut Session) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut interrupted = std::pin::pin!(interrupted());
        let mut session = tokio::select! {
            started = Box::pin(self.connection.session(self.url.clone())) => started?,
            interruption = &mut interrupted => return Err(interruption.into()),
        };
        let used = tokio::select! {
            used = Box::pin(use_it(&mut session)) => used,
            interruption = &mut interrupted => Err(interruption.into()),
        };
        session.cancel().await;
        session.close().await;
        used
    }
}

#[derive(Debug, Args)]
struct ProxyArgs {
    /// A name for the server, which is only logged.
    name: String,
    /// The URL of the MCP endpoint.
    url: String,
    /// The transport; only `http` is supported.
    #[arg(long, default_value = "http")]
    mode: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten, next_help_heading = "Changes the configuration of a program instead, as `mcpl install` does")]
    installation: Installation,
}

/// Runs the command.
#[doc(hidden)]
pub fn main() -> ExitCode {
    let matches = command_line::without_empty_variables(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        // A usage error, or `--help` or `--version`.
        Err(error) => {
            let code = match error.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    output::note(&format!("{NOT_PRINTED}: {error}"));
                    1
                }
                _ => error.exit_code(),
            };
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    };
    init_logs(cli.verbose);
    let json = cli.json;
    let is_server_used = cli.command.server().is_some();
    let prints_json = matches!(cli.command, Command::Doctor { .. } | Command::Logins { .. } | Command::Contract { .. });
    if json && !is_server_used && !prints_json {
        tracing::error!("`--json` is for `doctor`, `logins`, `contract` and commands that use a server: leave it out");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "could not start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended: anyhow::Result<ExitCode> = runtime.block_on(async {
        match cli.command {
            Command::Proxy(args) if args.installation.apps.is_some() => {
                install(&args.name, &args.url, &args.connection, &args.installation)
            }
            Command::Proxy(args) => proxy(*args).await,
            Command::Doctor { url, connection } => {
                if !doctor::run(&connection, &url, json).await? {
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Tools { server, tool } => {
                server.with_session(async |own| call::tools(own, tool.as_deref(), json).await).await
            }
            Command::Call { server, call } => {
                call.check()?;
                let calling = async |own: &mut Session| call::call(own, &call, &server.url, json).await;
                if !server.with_session(calling).await? {
                    // The tool's result has the reason.
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Task { command } => {
                if !task::run(&command, json).await? {
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Resources { server } => server.with_session(async |own| call::resources(own, json).await).await,
            Command::Read { server, uri, save_to } => {
                call::check(&[], save_to.as_deref())?;
                server.with_session(async |own| call::read(own, &uri, save_to.as_deref(), json).await).await
            }
            Command::Prompts { server } => server.with_session(async |own| call::prompts(own, json).await).await,
            Command::Prompt { server, prompt, arguments, save_to } => {
                call::check(&arguments, Some(&save_to))?;
                let getting = async |own: &mut Session| call::prompt(own, &prompt, &arguments, &save_to, json).await;
                server.with_session(getting).await
            }
            Command::Contract { command } => {
                if !Box::pin(contract::run(command, json)).await? {
                    return Ok(ExitCode::FAILURE);
                }
                Ok(())
            }
            Command::Install { name, url, connection, installation } => {
                install(&name, &url, &connection, &installation)
            }
            Command::Uninstall { name, apps } => install::uninstall(&name, &apps),
            Command::Login { server } => {
                server.connection.check_sign_in()?;
                let state_dir = server.connection.state_dir();
                server.with_session(async |own| login::login(own, &server.url, state_dir, json).await).await
            }
            Command::Logins { state_dir } => login::logins(state_dir.as_deref(), json),
            Command::Forget { url, state_dir } => login::forget(&url, state_dir.as_deref()).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "mcpl", &mut script);
                print(&String::from_utf8_lossy(&script));
                Ok(())
            }
            Command::Man { folder } => {
                manual(&folder).with_context(|| format!("could not write into {}", folder.display()))
            }
        }
        .map(|()| ExitCode::SUCCESS)
    });
    // Standard input may still be read, by a thread that nothing ends.
    runtime.shutdown_background();
    match ended.and_then(|code| output::failure().map_or(Ok(code), |error| Err(error).context(NOT_PRINTED))) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Interruption>() {
            Some(interruption) => ExitCode::from(interruption.code),
            None => {
                if json && is_server_used {
                    print(&output::json_as_written(&server_error::as_json(&error)));
                }
                tracing::error!("{error:#}");
                ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
            }
        },
    }
}

impl Command {
    /// The server that is used by hand, if this is such a command.
    fn server(&self) -> Option<&ServerArgs> {
        match self {
            Self::Login { server }
            | Self::Tools { server, .. }
            | Self::Call { server, .. }
            | Self::Task {
                command:
                    TaskCommand::Get { server, .. } | TaskCommand::Wait { server, .. } | TaskCommand::Cancel { server, .. },
            }
            | Self::Resources { server }
            | Self::Read { server, .. }
            | Self::Prompts { server }
            | Self::Prompt { server, .. } => Some(server),
            _ => None,
        }
    }
}

/// Writes the manual pages beside those that are there, and puts them in their places.
fn manual(folder: &Path) -> anyhow::Result<()> {
    let new = tempfile::Builder::new().prefix(".mcpl-").tempdir_in(folder)?;
    clap_mangen::generate_to(Cli::command(), new.path())?;
    for page in fs::read_dir(new.path())? {
        let page = page?;
        fs::rename(page.path(), folder.join(page.file_name()))?;
    }
    Ok(())
}

/// Writes the entries of programs with the options of this command.
fn install(name: &str, url: &str, connection: &Connection, installation: &Installation) -> anyhow::Result<()> {
    let url = &endpoint::parse(url)?;
    let mut options = connection.kept_options()?;
    let via_proxy = !options.is_empty();
    let needs_sign_in = connection.needs_sign_in();
    options.extend(connection.kept_proxy_options()?);
    if !installation.apps.is_dry_run() {
        connection.keep_secret(url)?;
    }
    install::install(name, url, installation, &options, via_proxy, needs_sign_in)
}

async fn proxy(args: ProxyArgs) -> anyhow::Result<()> {
    match args.mode.as_str() {
        "http" => {}
        "sse" => bail!(UsageError::new(
            "`--mode sse` is a transport of 2024 that servers here do not have: leave `--mode` out"
        )),
        other => bail!(UsageError::new(format!("`--mode {other}` is not known: leave it out"))),
    }
    tracing::info!(server = args.name, url = endpoint::without_query(&args.url), "ready");
    let upstream = args.connection.upstream(args.url)?;
    proxy::run(upstream).await
}

/// On standard error: standard output is the client's.
fn init_logs(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LogWriter).with_target(false).without_time();
    // Of each place without credentials, and as structures: the error that follows says it in words.
    let quiet = if verbose == 0 { LevelFilter::ERROR } else { level };
    // Libraries log what they send in the end, tokens included.
    let of_others = level.min(LevelFilter::INFO);
    let levels = Targets::new()
        .with_default(of_others)
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target("aws_config", quiet.min(of_others));
    tracing_subscriber::registry().with(lines).with(levels).init();
}
