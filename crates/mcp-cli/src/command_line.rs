//! Errors of the command line; variables that are options; and commands in options, such as `--token-command`: split into words
//! as a shell does, and run for what they print.

use std::{fmt, process::Stdio};

use anyhow::{Context, bail};
use clap::{Arg, builder::Resettable};
use tokio::{io::AsyncReadExt as _, process::Command};

/// The largest token that a command prints.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// The command line is wrong: exit code 2.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The command line without the variables that are empty, which count as unset.
pub(crate) fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let reset = |arg: Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(reset).mut_subcommands(without_empty_variables)
}

/// The words of a command. Words may be quoted by `'` or `"`; a backslash takes the next character as it is, except between
/// single quotes and on Windows, where it separates folders. Nothing is expanded.
///
/// # Errors
///
/// When there is no word, or a quote does not end.
pub(crate) fn split(command: &str) -> anyhow::Result<(String, Vec<String>)> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = command.chars();
    while let Some(own) = characters.next() {
        match (own, quote) {
            (end, Some(open)) if end == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(own);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) if !cfg!(windows) => {
                let escaped =
                    characters.next().ok_or_else(|| UsageError::new(format!("`{command}` ends with a backslash")))?;
                let word = word.get_or_insert_default();
                // Between double quotes it stays, unless there is something to escape.
                if quote.is_some() && !matches!(escaped, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (own, _) => word.get_or_insert_default().push(own),
        }
    }
    if let Some(open) = quote {
        bail!(UsageError::new(format!("`{command}` has a {open} that does not end")));
    }
    words.extend(word);
    let mut words = words.into_iter();
    let program = words.next().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| UsageError::new("a command is empty"))?;
    Ok((program, words.collect()))
}

/// The token that the command of an option prints.
pub(crate) async fn output(option: &str, command: &str) -> anyhow::Result<String> {
    let (program, words) = split(command).with_context(|| format!("could not read `{option}`"))?;
    let started = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = started.with_context(|| format!("could not run `{program}`"))?;
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut printed).await?;
    }
    if printed.len() as u64 > MAX_OUTPUT_BYTES {
        bail!("`{program}` printed more than {MAX_OUTPUT_BYTES} bytes: a token is expected");
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("`{program}`, which prints tokens, ended with {status}");
    }
    let token = String::from_utf8(printed).context("the token is no text")?.trim().to_owned();
    if token.is_empty() {
        bail!("`{program}` printed no token");
    }
    Ok(token)
}

/// Words as a shell reads them again.
pub(crate) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = words.into_iter().map(|word| {
        let is_plain =
            !word.is_empty() && word.chars().all(|own| own.is_ascii_alphanumeric() || "-_./:@%+=,".contains(own));
        if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[cfg(not(windows))]
mod tests {
    use super::*;

    /// Section 9, "Commands in options are split as a shell does".
    #[test]
    fn a_command_is_split_as_a_shell_does() {
        for (command, expected) in [
            ("gcloud auth print-identity-token", vec!["gcloud", "auth", "print-identity-token"]),
            ("sh -c 'echo  a \"b\"'", vec!["sh", "-c", "echo  a \"b\""]),
            (r#" "/opt/my tools/token"  --x='a b'c "" "#, vec!["/opt/my tools/token", "--x=a bc", ""]),
            (r#"a\ b "c\"d" "e\f" 'g\h'"#, vec!["a b", "c\"d", "e\\f", "g\\h"]),
        ] {
            let (program, words) = split(command).unwrap();
            let words: Vec<String> = std::iter::once(program).chain(words).collect();
            assert_eq!(words, expected, "{command}");
            let again = join(words.iter().map(String::as_str));
            let (program, rest) = split(&again).unwrap();
            assert_eq!(std::iter::once(program).chain(rest).collect::<Vec<_>>(), expected, "{again}");
        }
        for (command, expected) in
            [("", "is empty"), ("  ", "is empty"), ("'' a", "is empty"), ("a 'b", "does not end"), ("a\\", "backslash")]
        {
            let error = split(command).unwrap_err().to_string();
            assert!(error.contains(expected), "{command}: {error}");
        }
    }
}
