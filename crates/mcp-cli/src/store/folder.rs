//! The files of all servers in one folder: listing them, and finding those that an older version has named.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Store, kept::Named, usual_folder};
use crate::{endpoint, files};

/// The length of a file's name, without its extension: half of a SHA-256 digest in hexadecimal.
const NAME_CHARS: usize = 32;

/// A file of the folder that names no server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnreadableFile {
    pub(crate) file: PathBuf,
    pub(crate) reason: String,
}

/// Files, each with the canonical URL of its server.
type Stored = Vec<(PathBuf, String)>;

impl Store {
    /// The stores of all servers that have a file in the folder, by URL, and the files that name no server.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read. A folder that does not exist is empty.
    pub(crate) fn all(folder: Option<&Path>) -> io::Result<(Vec<Self>, Vec<UnreadableFile>)> {
        let own_folder = match folder {
            Some(folder) => folder.to_owned(),
            None => usual_folder()?,
        };
        let (stored, unreadable) = list(&own_folder)?;
        let servers: BTreeSet<String> = stored.into_iter().map(|(_, server)| server).collect();
        let mut stores: Vec<Self> = Vec::new();
        for server in servers {
            let store = Self::of(&server, folder)?;
            // The keychain is unlocked once for all of them.
            let key = stores.first().map_or_else(|| store.key.clone(), |first| first.key.clone());
            stores.push(Self { key, ..store });
        }
        Ok((stores, unreadable))
    }

    /// The canonical URL of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Renames a file of this server whose name was made from another spelling of its URL, such as with a final slash. The
    /// file that has been changed last is the one that is used.
    pub(super) fn adopt_older_name(&self) -> io::Result<()> {
        if self.file.exists() {
            return Ok(());
        }
        let older = stored(self.folder())?.into_iter().filter(|(_, server)| *server == self.server);
        let changed_at = |file: &PathBuf| fs::metadata(file).and_then(|own| own.modified()).ok();
        let Some((file, _)) = older.max_by_key(|(file, _)| changed_at(file)) else { return Ok(()) };
        match fs::rename(&file, &self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.not_opened(&error)),
            _ => Ok(()),
        }
    }

    /// Removes what other spellings of the URL have left beside the file of this server.
    pub(super) fn remove_older_names(&self) -> io::Result<()> {
        for (file, server) in stored(self.folder())? {
            if server == self.server && file != self.file {
                fs::remove_file(&file).map_err(|error| self.not_opened(&error))?;
            }
        }
        Ok(())
    }
}

/// The files of a folder that are named as a store names them, with the canonical URL of the server in each.
fn stored(folder: &Path) -> io::Result<Stored> {
    Ok(list(folder)?.0)
}

/// The same, and the files that name no server.
fn list(folder: &Path) -> io::Result<(Stored, Vec<UnreadableFile>)> {
    let (mut stored, mut unreadable) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((stored, unreadable)),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("could not list {}: {error}", folder.display())));
        }
    };
    for entry in entries {
        let file = entry?.path();
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_named = stem.len() == NAME_CHARS && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_named || file.extension().is_none_or(|own| own != "json") {
            continue;
        }
        match server_in(&file) {
            Ok(server) => stored.push((file, endpoint::canonical(&server))),
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unreadable.push(UnreadableFile { file, reason: error.to_string() }),
        }
    }
    unreadable.sort_by(|one, other| one.file.cmp(&other.file));
    Ok((stored, unreadable))
}

fn server_in(file: &Path) -> io::Result<String> {
    // Unbounded JSON: a file that mcpl has written.
    let named: Result<Named, _> = serde_json::from_slice(&files::read_secret(file)?);
    Ok(named.map_err(|error| io::Error::other(format!("it is broken at {}", place_of(&error))))?.server)
}

/// Where a file is broken. The error's own text shows a part of the content, which may be secret.
pub(super) fn place_of(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Registration, named, testing::SERVER};

    const OLD_SPELLING: &str = "https://MCP.example.com:443/mcp/";

    /// A file as a version has written it that named files by the URL as it was given.
    fn write_old(folder: &Path, server: &str, client_id: &str) -> PathBuf {
        let file = folder.join(format!("{}.json", named(server)));
        let registration = serde_json::to_value(Registration::given(client_id.to_owned(), None)).unwrap();
        let content = serde_json::json!({ "server": server, "registration": registration });
        fs::write(&file, content.to_string()).unwrap();
        file
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files::secret_folder(folder.path(), true).unwrap();
        folder
    }

    fn servers(folder: &tempfile::TempDir) -> Vec<String> {
        Store::all(Some(folder.path())).unwrap().0.into_iter().map(|own| own.server).collect()
    }

    #[test]
    fn a_file_of_an_older_spelling_is_renamed() {
        let folder = folder();
        let old = write_old(folder.path(), OLD_SPELLING, "c");

        let store = Store::of(SERVER, Some(folder.path())).unwrap();

        assert_eq!(store.registration().unwrap().unwrap().client_id, "c");
        assert!(store.file.exists() && !old.exists());
        assert_eq!(servers(&folder), [SERVER]);
    }

    #[test]
    fn forget_removes_all_spellings_and_nothing_else() {
        let folder = folder();
        let store = Store::of(SERVER, Some(folder.path())).unwrap();
        store.keep_registration(Registration::given("new".to_owned(), None)).unwrap();
        let old = write_old(folder.path(), OLD_SPELLING, "c");
        let other = write_old(folder.path(), "https://other.example.com/mcp", "o");
        let foreign = folder.path().join("notes.json");
        fs::write(&foreign, format!(r#"{{"server":"{SERVER}"}}"#)).unwrap();
        let broken = folder.path().join(format!("{}.json", "0".repeat(NAME_CHARS)));
        fs::write(&broken, "{").unwrap();

        assert_eq!(store.forget().unwrap().unwrap().description, "the client new");

        assert!(!old.exists() && !store.file.exists() && other.exists() && foreign.exists());
        assert_eq!(servers(&folder), ["https://other.example.com/mcp"]);
        let reason = "it is broken at line 1, column 1".to_owned();
        assert_eq!(Store::all(Some(folder.path())).unwrap().1, [UnreadableFile { file: broken, reason }]);
    }

    #[test]
    fn a_missing_folder_is_empty() {
        let folder = folder();
        let (stores, unreadable) = Store::all(Some(&folder.path().join("none"))).unwrap();
        assert!(stores.is_empty() && unreadable.is_empty());
    }
}
