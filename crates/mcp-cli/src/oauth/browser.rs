//! Opening the sign-in page.

use std::{
    fs, io,
    process::{Command, Stdio},
};

use crate::command_line;

/// Files, one of which exists under WSL if programs of Windows can be started.
const WSL_FILES: [&str; 2] = ["/proc/sys/fs/binfmt_misc/WSLInterop", "/proc/sys/fs/binfmt_misc/WSLInterop-late"];

/// How the sign-in page is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Browser {
    /// The default browser of the platform.
    #[default]
    Usual,
    /// A command, to which the URL is added.
    Command(String),
    /// None: the user opens the printed address.
    LeftOut,
}

/// Opens the sign-in page, whose address is printed already. Returns whether a browser was started.
pub(super) fn open(browser: &Browser, url: &str) -> bool {
    let opened = match browser {
        Browser::LeftOut => return false,
        Browser::Usual => match windows_command(url, WSL_FILES.map(|file| fs::read_to_string(file).ok())) {
            Some(command) => start(command),
            None => webbrowser::open(url),
        },
        Browser::Command(command) => {
            command_line::split(command).map_err(io::Error::other).and_then(|(program, words)| {
                let mut program = Command::new(program);
                program.args(words).arg(url);
                start(program)
            })
        }
    };
    if let Err(error) = &opened {
        tracing::warn!(%error, "no browser could be opened");
    }
    opened.is_ok()
}

/// On Linux within Windows (WSL): a program of Windows that passes a URL to the browser. No shell reads the URL, as one
/// might that the platform's opener falls back to.
fn windows_command(url: &str, wsl_files: [Option<String>; 2]) -> Option<Command> {
    let is_wsl = wsl_files.iter().flatten().any(|content| content.contains("enabled"));
    is_wsl.then(|| {
        let mut program = Command::new("rundll32.exe");
        program.args(["url.dll,FileProtocolHandler", url]);
        program
    })
}

fn start(mut program: Command) -> io::Result<()> {
    // Standard output is the client's.
    program.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shell_reads_a_url_on_wsl_c16() {
        let url = "https://id.example/authorize?a=b&calc.exe";
        let enabled = || Some("enabled\ninterpreter /init\n".to_owned());
        for files in [[enabled(), None], [None, enabled()]] {
            let command = windows_command(url, files).unwrap();

            assert_eq!(command.get_program(), "rundll32.exe");
            assert_eq!(command.get_args().collect::<Vec<_>>(), ["url.dll,FileProtocolHandler", url]);
        }
        assert!(windows_command(url, [None, Some("disabled".to_owned())]).is_none());
    }
}
