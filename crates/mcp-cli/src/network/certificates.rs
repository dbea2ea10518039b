//! The variables that name certificates, SSL_CERT_FILE and SSL_CERT_DIR.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::SettingFault;
use crate::files;

const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Whether certificates are those of the system's own store alone.
pub(crate) const HAS_SYSTEM_STORE: bool = cfg!(any(windows, target_vendor = "apple"));

/// The variables that are set, with their values.
pub(crate) fn named() -> Vec<(&'static str, PathBuf)> {
    VARIABLES.into_iter().filter_map(|name| env::var_os(name).map(|value| (name, PathBuf::from(value)))).collect()
}

/// The variables with their values, for a message; `None` if there are none, or if they are not read.
pub(crate) fn in_words() -> Option<String> {
    let named = named();
    let names: Vec<String> = named.iter().map(|(name, path)| format!("{name} ({})", path.display())).collect();
    (!HAS_SYSTEM_STORE && !names.is_empty()).then(|| names.join(" and "))
}

/// The variables that name no certificates, where they take the place of the system's store.
pub(crate) fn faults() -> Vec<SettingFault> {
    if HAS_SYSTEM_STORE { Vec::new() } else { faults_of(&named()) }
}

/// How many certificates the variables name together; those that cannot be read have none.
pub(crate) fn count() -> usize {
    named().iter().filter_map(|(name, path)| certificates_of(name, path).ok()).sum()
}

fn faults_of(named: &[(&'static str, PathBuf)]) -> Vec<SettingFault> {
    let (mut faults, mut count) = (Vec::new(), 0);
    for (name, path) in named {
        match certificates_of(name, path) {
            Ok(own) => count += own,
            Err(error) => faults.push(SettingFault {
                found: format!("{name} names {}, which cannot be read: {error}", path.display()),
                fix: format!("correct or unset {name}: without it the system's certificates count"),
            }),
        }
    }
    if faults.is_empty() && count == 0 && !named.is_empty() {
        let names: Vec<String> = named.iter().map(|(name, path)| format!("{name} ({})", path.display())).collect();
        faults.push(SettingFault {
            found: format!("{} has no certificate", names.join(" and ")),
            fix: "it needs PEM, with lines `-----BEGIN CERTIFICATE-----`; unset it for the system's certificates"
                .to_owned(),
        });
    }
    faults
}

fn certificates_of(name: &str, path: &Path) -> io::Result<usize> {
    let paths = if name == "SSL_CERT_DIR" { files_in(path)? } else { vec![path.to_owned()] };
    paths.iter().try_fold(0, |sum, path| Ok(sum + certificates_in(path)?))
}

fn files_in(folders: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in env::split_paths(folders.as_os_str()).filter(|folder| !folder.as_os_str().is_empty()) {
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path());
        }
    }
    Ok(files.into_iter().filter(|file| file.is_file()).collect())
}

fn certificates_in(file: &Path) -> io::Result<usize> {
    let content = files::read(file)?;
    Ok(String::from_utf8_lossy(&content).matches("-----BEGIN CERTIFICATE-----").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_without_certificates_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let [good, empty, none] = ["good.pem", "empty.pem", "none.pem"].map(|name| folder.path().join(name));
        fs::write(&good, "-----BEGIN CERTIFICATE-----\n").unwrap();
        fs::write(&empty, "").unwrap();
        let found = |name, path: &Path| {
            let faults = faults_of(&[(name, path.to_owned())]);
            faults.into_iter().map(|fault| fault.found).collect::<String>()
        };

        assert_eq!(found("SSL_CERT_FILE", &good), "");
        assert_eq!(found("SSL_CERT_DIR", folder.path()), "");
        assert!(found("SSL_CERT_FILE", &none).contains("none.pem, which cannot be read"));
        assert!(found("SSL_CERT_FILE", folder.path()).contains("which cannot be read"));
        assert!(found("SSL_CERT_DIR", &none).contains("which cannot be read"));
        assert!(found("SSL_CERT_FILE", &empty).contains("has no certificate"));
        assert_eq!(faults_of(&[]), []);
    }
}
