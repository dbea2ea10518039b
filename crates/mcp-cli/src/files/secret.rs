//! Files and folders that hold secrets: they belong to the user, and no one else can read them.

use std::{fs, io, path::Path};

use super::{Links, open_regular, read_opened};

/// Reads a file that holds secrets. A mode that lets others read it is changed to 0600, with a warning.
///
/// # Errors
///
/// As [`read`](super::read); and when it is a symbolic link, belongs to another user, or could be written by others (Unix).
pub(crate) fn read_secret(file: &Path) -> io::Result<Vec<u8>> {
    let opened = open_regular(file, fs::OpenOptions::new().read(true), Links::Rejected)?;
    check_file(file, &opened)?;
    read_opened(file, opened)
}

#[cfg(unix)]
fn check_file(file: &Path, opened: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let (metadata, shown) = (opened.metadata()?, file.display());
    let (owner, user) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    if owner != user {
        return Err(io::Error::other(format!(
            "{shown} belongs to user {owner}, not to user {user}: remove it and sign in again, or give a `--state-dir` of \
             your own"
        )));
    }
    let mode = metadata.mode() & 0o777;
    // Tokens of another person may be in it.
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{shown} could be changed by other users (mode {mode:o}): remove it and sign in again"
        )));
    }
    if mode & 0o077 != 0 {
        opened.set_permissions(fs::Permissions::from_mode(0o600))?;
        tracing::warn!(
            "{shown} was open to other users (mode {mode:o}): its mode is now 600; if others could read it, run `mcpl \
             forget` and sign in again"
        );
    }
    Ok(())
}

/// On Windows the files of a user are private.
#[cfg(not(unix))]
fn check_file(_: &Path, _: &fs::File) -> io::Result<()> {
    Ok(())
}

/// Creates a folder for secrets, or checks the existing one.
///
/// # Errors
///
/// When others own the folder, or may look into it: with `repair` its mode is changed instead.
pub(crate) fn secret_folder(folder: &Path, repair: bool) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match new_folder(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_folder(folder, repair),
        made => made,
    }
}

fn new_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(folder);
    #[cfg(not(unix))]
    fs::create_dir(folder)
}

#[cfg(unix)]
fn check_folder(folder: &Path, repair: bool) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let metadata = fs::metadata(folder)?;
    let shown = folder.display();
    if !metadata.is_dir() {
        return Err(io::Error::other(format!("{shown} is no folder: give another `--state-dir`")));
    }
    let user = nix::unistd::geteuid().as_raw();
    // The owner of a link decides where it leads.
    let owners = [metadata.uid(), fs::symlink_metadata(folder)?.uid()];
    if let Some(owner) = owners.into_iter().find(|owner| *owner != user) {
        let why = format!("{shown} belongs to user {owner}, not to user {user}: give a `--state-dir` of your own");
        return Err(io::Error::other(why));
    }
    let mode = metadata.mode() & 0o777;
    match (mode & 0o077 != 0, repair) {
        (false, _) => Ok(()),
        (true, true) => {
            tracing::warn!("{shown} was open to other users (mode {mode:o}): its mode is now 700");
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        }
        (true, false) => {
            let why = format!("{shown} is open to other users (mode {mode:o}): run `chmod 700 {shown}`");
            Err(io::Error::other(why))
        }
    }
}

/// On Windows the folders of a user are private.
#[cfg(not(unix))]
fn check_folder(_: &Path, _: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;
    use crate::files::lock;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_of_secrets_that_others_can_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.json");
        fs::write(&file, "token").unwrap();
        for open in [0o644, 0o640, 0o604] {
            fs::set_permissions(&file, fs::Permissions::from_mode(open)).unwrap();

            assert_eq!(read_secret(&file).unwrap(), b"token");

            assert_eq!(mode(&file), 0o600, "{open:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        read_secret(&file).unwrap();
        assert_eq!(mode(&file), 0o400);
    }

    #[test]
    fn a_file_of_secrets_that_others_can_write_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.json");
        fs::write(&file, "token of another person").unwrap();
        for open in [0o620, 0o602, 0o666] {
            fs::set_permissions(&file, fs::Permissions::from_mode(open)).unwrap();

            let error = read_secret(&file).unwrap_err().to_string();

            assert!(error.contains("could be changed by other users"), "{error}");
            assert_eq!(mode(&file), open);
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_secret_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, dangling, created] =
            ["file", "link", "dangling", "created"].map(|own| folder.path().join(own));
        fs::write(&file, "token").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&file, &link).unwrap();
        symlink(&created, &dangling).unwrap();

        for link in [&link, &dangling] {
            for error in [read_secret(link).unwrap_err(), lock(link).unwrap_err()] {
                assert!(error.to_string().contains("is a symbolic link, which is not followed"), "{error}");
            }
        }

        assert_eq!(mode(&file), 0o644);
        assert!(!created.exists());
    }

    #[test]
    fn a_secret_of_another_user_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let others = if nix::unistd::geteuid().is_root() {
            let file = folder.path().join("secret.json");
            fs::write(&file, "token").unwrap();
            std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
            file
        } else {
            PathBuf::from("/etc/passwd")
        };

        let error = read_secret(&others).unwrap_err().to_string();

        assert!(error.contains("belongs to user") && error.contains("--state-dir"), "{error}");
    }

    /// 8.6
    #[test]
    fn a_folder_for_secrets_is_its_owners_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new/mcpl");
        secret_folder(&folder, false).unwrap();
        assert_eq!(mode(&folder), 0o700);

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let error = secret_folder(&folder, false).unwrap_err().to_string();
        assert!(error.contains("mode 755") && error.contains("chmod 700"), "{error}");
        secret_folder(&folder, true).unwrap();
        assert_eq!(mode(&folder), 0o700);

        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(secret_folder(&file, true).unwrap_err().to_string().contains("is no folder"));
        let others = if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(12345), None).unwrap();
            folder
        } else {
            PathBuf::from("/")
        };
        let error = secret_folder(&others, true).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
        if nix::unistd::geteuid().is_root() {
            let [own, link] = ["own", "link"].map(|name| parent.path().join(name));
            secret_folder(&own, false).unwrap();
            symlink(&own, &link).unwrap();
            secret_folder(&link, false).unwrap();
            std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
            let error = secret_folder(&link, false).unwrap_err().to_string();
            assert!(error.contains("belongs to user 12345"), "{error}");
        }
    }
}
