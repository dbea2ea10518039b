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

impl Store {
    /// The stores of all servers that have a file in the folder, by URL.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read. A folder that does not exist is empty.
    pub(crate) fn all(folder: Option<&Path>) -> io::Result<Vec<Self>> {
        let own_folder = match folder {
            Some(folder) => folder.to_owned(),
            None => usual_folder()?,
        };
        let servers: BTreeSet<String> = stored(&own_folder)?.into_iter().map(|(_, server)| server).collect();
        let mut stores: Vec<Self> = Vec::new();
        for server in servers {
            let store = Self::of(&server, folder)?;
            // The keychain is unlocked once for all of them.
            let key = stores.first().map_or_else(|| store.key.clone(), |first| first.key.clone());
            stores.push(Self { key, ..store });
        }
        Ok(stores)
    }

    /// The canonical URLs of the servers that have a file in the folder of this store.
    pub(crate) fn servers(&self) -> io::Result<BTreeSet<String>> {
        Ok(stored(self.folder())?.into_iter().map(|(_, server)| server).collect())
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
fn stored(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("could not list {}: {error}", folder.display())));
        }
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_named = stem.len() == NAME_CHARS && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_named || file.extension().is_none_or(|own| own != "json") {
            continue;
        }
        // A broken file names no server.
        // Unbounded JSON: a file that mcpl has written.
        let Some(Named { server }) = files::read_secret(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
        else {
            continue;
        };
        found.push((file, endpoint::canonical(&server)));
    }
    Ok(found)
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

    #[test]
    fn a_file_of_an_older_spelling_is_renamed() {
        let folder = folder();
        let old = write_old(folder.path(), OLD_SPELLING, "c");

        let store = Store::of(SERVER, Some(folder.path())).unwrap();

        assert_eq!(store.registration().unwrap().unwrap().client_id, "c");
        assert!(store.file.exists() && !old.exists());
        let servers: Vec<String> = Store::all(Some(folder.path())).unwrap().into_iter().map(|own| own.server).collect();
        assert_eq!(servers, [SERVER]);
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
        fs::write(folder.path().join(format!("{}.json", "0".repeat(NAME_CHARS))), "{").unwrap();

        assert_eq!(store.forget().unwrap().unwrap().description, "the client new");

        assert!(!old.exists() && !store.file.exists() && other.exists() && foreign.exists());
        assert_eq!(store.servers().unwrap(), BTreeSet::from(["https://other.example.com/mcp".to_owned()]));
    }

    #[test]
    fn a_missing_folder_is_empty() {
        let folder = folder();
        assert!(Store::all(Some(&folder.path().join("none"))).unwrap().is_empty());
    }
}
