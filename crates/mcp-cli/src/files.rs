//! Files: written under a random name and then renamed, with access for the owner alone
//! if they hold secrets. Only regular files are read, up to a limit: a FIFO or a device may not end.

mod secret;

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use tempfile::Builder;

pub(crate) use self::secret::{read_secret, secret_folder};

/// Maximum number of links to a file; more are a cycle.
const MAX_LINKS: usize = 32;
/// Maximum number of saved files of one name.
const MAX_NAMESAKES: usize = 1000;
/// The longest name of a tool that is part of a file's name.
const MAX_STEM_CHARS: usize = 64;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The access to a replaced file.
pub(crate) enum Readers {
    /// The owner alone.
    Owner,
    /// Those who can read the file that is replaced; the owner, if there is none.
    SameAsBefore,
    /// Those who can read the file that is replaced; if there is none, those whom the umask lets read new files.
    SameAsBeforeOrProject,
}

/// Replaces a file, or a link, atomically: readers find the old content or the new.
pub(crate) fn replace(file: &Path, content: &[u8], readers: &Readers) -> io::Result<()> {
    let before = match readers {
        Readers::Owner => None,
        Readers::SameAsBefore | Readers::SameAsBeforeOrProject => {
            fs::metadata(file).ok().map(|metadata| metadata.permissions())
        }
    };
    let is_for_owner = !matches!(readers, Readers::SameAsBeforeOrProject);
    // It is new, of a random name, and of mode 0600.
    let mut builder = Builder::new();
    builder.prefix(".mcpl-");
    #[cfg(unix)]
    if !is_for_owner {
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    let mut new = builder.tempfile_in(folder_of(file))?;
    new.write_all(content)?;
    match before {
        Some(permissions) => new.as_file().set_permissions(permissions)?,
        None if is_for_owner => for_owner(new.as_file())?,
        None => {}
    }
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// Checks that a content can be written beside a file.
///
/// # Errors
///
/// As [`replace`]: when the folder is read-only, or the disk is full.
pub(crate) fn probe(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = Builder::new().prefix(".mcpl-").tempfile_in(folder_of(file))?;
    new.write_all(content)?;
    new.as_file().sync_all()
}

/// Reads a regular file.
///
/// # Errors
///
/// As [`fs::read`]; and when it is none, or larger than [`MAX_FILE_BYTES`].
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
    read_opened(file, open_regular(file, fs::OpenOptions::new().read(true), Links::Followed)?)
}

fn read_opened(file: &Path, opened: fs::File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("{} has more than {MAX_FILE_BYTES} bytes", file.display())));
    }
    Ok(content)
}

/// Reads a regular file of text.
///
/// # Errors
///
/// As [`read`]; and when it is not UTF-8.
pub(crate) fn read_text(file: &Path) -> io::Result<String> {
    String::from_utf8(read(file)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Opens a lock file and waits for its lock.
pub(crate) fn lock(file: &Path) -> io::Result<fs::File> {
    let file = open_for_lock(file)?;
    file.lock()?;
    Ok(file)
}

/// Locks a file without waiting; `None` if another process has the lock.
pub(crate) fn try_lock(file: &Path) -> io::Result<Option<fs::File>> {
    let file = open_for_lock(file)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn open_for_lock(file: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    open_regular(file, &mut options, Links::Rejected)
}

/// Whether a symbolic link is opened (Unix; on Windows it always is).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Followed,
    Rejected,
}

/// Opens a file without blocking on a FIFO, and checks that it is a regular file.
fn open_regular(file: &Path, options: &mut fs::OpenOptions, links: Links) -> io::Result<fs::File> {
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        let own = if links == Links::Rejected { OFlag::O_NOFOLLOW } else { OFlag::empty() };
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | own;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits());
    }
    let opened = options.open(file).map_err(|error| match links == Links::Rejected && file.is_symlink() {
        true => io::Error::other(format!(
            "{} is a symbolic link, which is not followed: put the file itself there, or remove the link",
            file.display()
        )),
        false => error,
    })?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no regular file", file.display())));
    }
    Ok(opened)
}

/// Resolves a path that may be a link, also one to a file that does not exist yet.
pub(crate) fn linked(file: &Path) -> io::Result<PathBuf> {
    let mut file = file.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&file) {
            Ok(target) => file = folder_of(&file).join(target),
            Err(_) => return Ok(file),
        }
    }
    Err(io::Error::other(format!("{} is a link that leads in a circle", file.display())))
}

#[cfg(unix)]
fn for_owner(file: &fs::File) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

#[cfg(not(unix))]
fn for_owner(_: &fs::File) -> io::Result<()> {
    Ok(())
}

/// Saves a file under a new name, which begins with `stem` and ends with `extension` as far as both are letters, digits,
/// `-` and `_`.
pub(crate) fn save(folder: &Path, stem: &str, extension: &str, content: &[u8]) -> io::Result<PathBuf> {
    let allowed = |own: char| own.is_ascii_alphanumeric() || "-_".contains(own);
    let stem: String = stem.chars().take(MAX_STEM_CHARS).map(|own| if allowed(own) { own } else { '_' }).collect();
    // What begins with `-` would be an option of a command.
    let stem = match stem.trim_start_matches('-') {
        "" => "file",
        stem => stem,
    };
    let extension: String = extension.chars().take_while(char::is_ascii_alphanumeric).take(16).collect();
    let extension = if extension.is_empty() { "bin" } else { &extension };
    for number in 1..=MAX_NAMESAKES {
        let file = folder.join(format!("{stem}-{number}.{extension}"));
        match fs::OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(mut new) => {
                new.write_all(content)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        }
    }
    Err(io::Error::other(format!("{} has {MAX_NAMESAKES} files of this name already", folder.display())))
}

/// The folder of a file.
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    /// 8.6: neither the file's own mode, nor a link in its place, nor one at the temporary name of earlier versions.
    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [file, other] = ["secret.json", "other"].map(|name| folder.path().join(name));
        let old_name = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&other, "untouched").unwrap();
        fs::write(&file, "open").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&other, &old_name).unwrap();

        replace(&file, b"token", &Readers::Owner).unwrap();

        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("token", 0o600));
        fs::remove_file(&file).unwrap();
        symlink(&other, &file).unwrap();
        replace(&file, b"again", &Readers::Owner).unwrap();
        assert!(!file.is_symlink() && mode(&file) == 0o600);
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left");
    }

    /// 8.6
    #[test]
    fn what_is_no_secret_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        replace(&file, b"{}", &Readers::SameAsBefore).unwrap();
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();

        replace(&file, b"{}", &Readers::SameAsBefore).unwrap();

        assert_eq!(mode(&file), 0o644);
    }

    #[test]
    fn a_file_of_a_project_has_the_mode_of_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let [file, usual] = ["config.json", "usual"].map(|name| folder.path().join(name));
        fs::write(&usual, "").unwrap();

        replace(&file, b"{}", &Readers::SameAsBeforeOrProject).unwrap();

        assert_eq!(mode(&file), mode(&usual));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&file, b"{}", &Readers::SameAsBeforeOrProject).unwrap();
        assert_eq!(mode(&file), 0o640);
    }

    /// 8.6: neither waits for the other end of a FIFO, nor reads a device without end.
    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("fifo", path("link")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        fs::write(path("file"), "text").unwrap();
        fs::write(path("bytes"), [0xff]).unwrap();
        let size = |bytes| fs::File::options().write(true).open(path("bytes")).unwrap().set_len(bytes).unwrap();

        for name in ["fifo", "link", "zero", "."] {
            let error = read(&path(name)).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{name}: {error}");
            assert!(lock(&path(name)).is_err(), "{name}");
        }
        assert_eq!(read_text(&path("file")).unwrap(), "text");
        assert_eq!(read_text(&path("bytes")).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        size(MAX_FILE_BYTES);
        assert_eq!(read(&path("bytes")).unwrap().len() as u64, MAX_FILE_BYTES);
        size(MAX_FILE_BYTES + 1);
        assert!(read(&path("bytes")).unwrap_err().to_string().contains("more than 16777216 bytes"));
        lock(&path("file")).unwrap();
    }

    /// 8.6: the target of a link may not exist yet.
    #[test]
    fn a_link_is_followed_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("second", path("first")).unwrap();
        symlink(path("dotfiles/config.json"), path("second")).unwrap();
        symlink("circle", path("circle")).unwrap();

        assert_eq!(linked(&path("first")).unwrap(), path("dotfiles/config.json"));
        assert_eq!(linked(&path("none")).unwrap(), path("none"));
        assert!(linked(&path("circle")).is_err());
    }

    /// 8.9
    #[test]
    fn a_saved_file_is_new_and_where_it_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        let outside = folder.path().join("outside");
        symlink(&outside, own.join("chart-1.png")).unwrap();
        fs::write(own.join("chart-2.png"), "mine").unwrap();

        let saved = save(&own, "chart", "png", b"image").unwrap();

        assert_eq!(saved, own.join("chart-3.png"));
        assert_eq!(fs::read(saved).unwrap(), b"image");
        assert!(!outside.exists());
        assert_eq!(fs::read_to_string(own.join("chart-2.png")).unwrap(), "mine");
        for (stem, extension, expected) in [
            ("../../outside", "png", "______outside-1.png"),
            ("/etc/passwd", "x/../y", "_etc_passwd-1.x"),
            ("a\n\u{1b}[2J\u{202e}b", "svg+xml", "a___2J_b-1.svg"),
            ("--", "", "file-1.bin"),
            ("-rf", "png", "rf-1.png"),
            (&"é".repeat(1000), &"x".repeat(1000), &format!("{}-1.{}", "_".repeat(64), "x".repeat(16))),
        ] {
            assert_eq!(save(&own, stem, extension, b"").unwrap(), own.join(expected));
        }
        assert!(save(&own.join("none"), "a", "b", b"").unwrap_err().to_string().contains("a-1.b"));
    }
}
