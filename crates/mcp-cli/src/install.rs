//! `mcpl install` and `mcpl uninstall`: a server's entry in the configuration of the programs that use it.
//!
//! A file is changed where the entry is and nowhere else: comments, order and spacing stay. What it was before is kept
//! beside it (beside the real file, where a link leads to it), and comes back when the entry is taken out again and nothing
//! else has changed.

mod app;
mod entry;
mod existing;
mod places;

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use similar::TextDiff;

pub(crate) use self::app::{Apps, Installation};
use self::{
    app::{App, Server},
    entry::{Value, has_entry, names, with_entry, without_entry},
    existing::Replaced,
    places::Places,
};
use crate::{
    command_line::{self, UsageError},
    files::{self, Readers},
    output::{print, printable},
    store,
};

/// Byte order mark, which some editors require.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Writes the entries of a server. `options` are for `mcpl proxy`, which with `via_proxy` every program starts. With
/// `needs_sign_in` a person may have to sign in for it.
///
/// # Errors
///
/// The last one, when the others have been written and their errors are logged.
pub(crate) fn install(
    name: &str,
    url: &str,
    installation: &Installation,
    options: &[String],
    via_proxy: bool,
    needs_sign_in: bool,
) -> anyhow::Result<()> {
    let (apps, via_proxy) = (&installation.apps, via_proxy || installation.via_proxy);
    check_name(name)?;
    let current = std::env::current_exe().context("the path of this command is not known")?;
    let command = lasting(&current, &std::env::var_os("PATH").unwrap_or_default());
    let command = command.to_str().context("the path of this command is not Unicode")?;
    let server = Server { name, url, command, options };
    let places = Places::usual()?;
    let chosen = apps.chosen_or_prompted()?;
    let is_proxied = |app: App| via_proxy || app.direct(url).is_none();
    let (written, installed) = change_all(&chosen, &places, apps.dry_run, Kind::Install, |app, text| {
        let entry = app.entry(&server, is_proxied(app));
        if let Some(replaced) = Replaced::of(app, text, name, &entry) {
            tracing::warn!("{}: {replaced}", app.title());
        }
        with_entry(app, text, name, &entry).map(Some)
    });
    if !apps.dry_run {
        written.iter().filter_map(|app| app.advice()).for_each(print);
        if written.iter().any(|app| !is_proxied(*app)) && options.iter().any(|own| own == "--timeout") {
            print("`--timeout` is for `mcpl proxy`: with `--via-proxy` all of them start it");
        }
        if needs_sign_in && written.iter().any(|app| is_proxied(*app)) {
            let words = ["mcpl", "login", url].into_iter().chain(options.iter().map(String::as_str));
            print(&format!("If the server requires a sign-in, sign in first: {}", command_line::join(words)));
        }
    }
    installed
}

/// Removes the entries of a server.
///
/// # Errors
///
/// As [`install`].
pub(crate) fn uninstall(name: &str, apps: &Apps) -> anyhow::Result<()> {
    check_name(name)?;
    let places = Places::usual()?;
    let (_, ended) = change_all(&apps.chosen_or_prompted()?, &places, apps.dry_run, Kind::Uninstall, |app, text| {
        if !has_entry(app, text, name) {
            let those = match names(app, text).join(", ") {
                none if none.is_empty() => "it has no entries".to_owned(),
                names => format!("there are {names}"),
            };
            bail!("there is no entry `{name}`; {those}");
        }
        let without = without_entry(app, text, name)?;
        // Whether spacing that came with the entry is all that is left beside a text.
        let is_all = |before: &str| {
            let plain = [("url", Value::Text(String::new()))];
            let came = with_entry(app, before, name, &plain).and_then(|came| without_entry(app, &came, name));
            came.is_ok_and(|gone| gone == without) && !has_entry(app, before, name)
        };
        match files::linked(&app.file(&places)).and_then(|target| files::read_text(&backup_of(&target))) {
            Ok(before) => {
                let before = without_mark(&before).1;
                Ok(Some(if is_all(before) { before.to_owned() } else { without }))
            }
            // Each file that was there before has a backup.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_all("") => Ok(None),
            Err(_) => Ok(Some(without)),
        }
    });
    ended
}

/// Whether an entry is written or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Install,
    Uninstall,
}

/// Changes the files of all programs, one installation after the other. A file that cannot be changed stops no other. One for
/// which `edit` returns `None` is removed. Returns the programs whose file is as it should be.
fn change_all(
    chosen: &[App],
    places: &Places,
    dry_run: bool,
    kind: Kind,
    edit: impl Fn(App, &str) -> anyhow::Result<Option<String>>,
) -> (Vec<App>, anyhow::Result<()>) {
    let _lock = if dry_run { None } else { lock() };
    let (mut changed, mut failed) = (Vec::new(), None);
    for app in chosen {
        match change(*app, places, dry_run, kind, |text| edit(*app, text)) {
            Ok(()) => changed.push(*app),
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    tracing::error!("{before:#}");
                }
            }
        }
    }
    (changed, failed.map_or(Ok(()), Err))
}

/// Waits for other installations: each reads a file, and replaces it. Where nothing can be locked, there is no waiting.
fn lock() -> Option<fs::File> {
    let lock = || {
        let folder = store::usual_folder()?;
        files::secret_folder(&folder, true)?;
        files::lock(&folder.join("install.lock"))
    };
    lock().inspect_err(|error| tracing::info!(%error, "other installations are not waited for")).ok()
}

/// The path of a command that outlives an update: package managers put a link into a folder of PATH, and the program of each
/// version into a folder of its own.
pub(crate) fn lasting(current: &Path, path: &OsStr) -> PathBuf {
    let (Ok(real), Some(name)) = (current.canonicalize(), current.file_name()) else { return current.to_owned() };
    let found = std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    let mut own = found.filter(|found| found.canonicalize().is_ok_and(|found| found == real));
    own.next().unwrap_or_else(|| current.to_owned())
}

/// The byte order mark that a text begins with, or nothing, and the rest.
fn without_mark(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 })
}

fn change(
    app: App,
    places: &Places,
    dry_run: bool,
    kind: Kind,
    edit: impl FnOnce(&str) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<()> {
    let file = app.file(places);
    let shown = file.display();
    // What is linked to stays linked to.
    let target = files::linked(&file).with_context(|| format!("could not follow {shown}"))?;
    let before = match files::read_text(&target) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("could not read {shown}")),
    };
    let (mark, old) = without_mark(before.as_deref().unwrap_or_default());
    let new = edit(old).with_context(|| format!("{shown} is left as it is"))?;
    let text = new.as_deref().unwrap_or_default();
    if text == old && new.is_some() {
        print(&format!("{}: {shown} needs no change", app.title()));
        return Ok(());
    }
    let diff = TextDiff::from_lines(old, text);
    let diff = diff.unified_diff().header(&shown.to_string(), &shown.to_string()).to_string();
    print(printable(&diff).trim_end());
    if dry_run {
        return Ok(());
    }
    if new.is_none() {
        fs::remove_file(&target).with_context(|| format!("could not remove {shown}"))?;
        print(&format!("{}: {shown} is removed: nothing else was in it", app.title()));
        return Ok(());
    }
    for folder in [file.parent(), target.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let write = |path: &Path, text: &str, readers: &Readers| {
        let written = files::replace(path, text.as_bytes(), readers);
        written.with_context(|| format!("could not write {}", path.display()))
    };
    let backup = backup_of(&target);
    let new = format!("{mark}{text}");
    match &before {
        // The first one stays: what was there before the first entry came.
        Some(before) if kind == Kind::Install && fs::symlink_metadata(&backup).is_err() => {
            write(&backup, before, &Readers::Owner)?;
        }
        _ => {}
    }
    let readers = if app.is_of_project() { Readers::SameAsBeforeOrProject } else { Readers::SameAsBefore };
    write(&target, &new, &readers)?;
    if kind == Kind::Uninstall && files::read_text(&backup).is_ok_and(|before| before == new) {
        fs::remove_file(&backup).with_context(|| format!("could not remove {}", backup.display()))?;
    }
    print(&format!("{}: {shown} is changed; restart the program if it is running", app.title()));
    Ok(())
}

/// Beside a file that is no link: what is private elsewhere is copied into no project.
fn backup_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".before-mcpl");
    file.with_file_name(name)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    // What begins with `-` would be an option of the command in the entry.
    let is_plain = !name.is_empty() && name.chars().all(|own| own.is_ascii_alphanumeric() || "-_".contains(own));
    if !is_plain || name.starts_with('-') {
        bail!(UsageError::new(format!(
            "the name `{name}` must be letters, digits, `-` and `_`, and not begin with `-`"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SERVER: Server<'_> = Server {
        name: "greeter",
        url: "https://abc.lambda-url.eu-west-1.on.aws/mcp",
        command: "/usr/local/bin/mcpl",
        options: &[],
    };

    #[test]
    fn each_program_gets_what_it_can_use() {
        let text = |app: App| with_entry(app, "", "greeter", &app.entry(&SERVER, false)).unwrap();
        let json = |app: App| serde_json::from_str::<serde_json::Value>(&text(app)).unwrap();
        let url = SERVER.url;

        assert_eq!(
            json(App::Claude)["mcpServers"]["greeter"],
            serde_json::json!({ "command": SERVER.command, "args": ["proxy", "greeter", url] })
        );
        assert_eq!(json(App::VsCode)["servers"]["greeter"], serde_json::json!({ "type": "http", "url": url }));
        assert_eq!(json(App::Gemini)["mcpServers"]["greeter"], serde_json::json!({ "httpUrl": url }));
        assert_eq!(text(App::Codex), format!("[mcp_servers.greeter]\nurl = \"{url}\"\n"));
    }

    #[test]
    fn a_name_that_would_not_work_is_refused() {
        for name in ["", "a b", "a.b", "\"", "é", "-v", "--sigv4", "-"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("a-b_1").unwrap();
    }

    /// i05
    #[test]
    #[cfg(unix)]
    fn a_command_is_named_as_path_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let [real, linked, other] = ["1.0/bin", "bin", "other"].map(|name| folder.path().join(name));
        for folder in [&real, &linked, &other] {
            fs::create_dir_all(folder).unwrap();
        }
        for folder in [&real, &other] {
            fs::write(folder.join("mcpl"), "").unwrap();
        }
        std::os::unix::fs::symlink("../1.0/bin/mcpl", linked.join("mcpl")).unwrap();
        let path = |folders: &[&Path]| std::env::join_paths(folders).unwrap();
        let current = real.join("mcpl");

        assert_eq!(lasting(&current, &path(&[&other, &linked, &real])), linked.join("mcpl"));
        assert_eq!(
            lasting(&current, &path(&[&other, Path::new("bin")])),
            current,
            "no other program, no relative folder"
        );
        assert_eq!(lasting(&current, OsStr::new("")), current);
    }
}
