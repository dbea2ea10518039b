//! Paths of the programs' configuration files. docs/mcpl.md has the paths of every system, and their sources.

use std::{fs, path::PathBuf};

use anyhow::Context;
use etcetera::BaseStrategy;

/// The base folders of configuration files.
pub(super) struct Places {
    pub(super) home: PathBuf,
    /// The platform's folder for configuration of desktop programs.
    pub(super) config: PathBuf,
    pub(super) project: PathBuf,
    /// CODEX_HOME.
    pub(super) codex: Option<PathBuf>,
    /// The folder of MSIX packages (Windows).
    pub(super) packages: Option<PathBuf>,
}

impl Places {
    pub(super) fn usual() -> anyhow::Result<Self> {
        let home = etcetera::home_dir().context("the home folder is not known")?;
        let config = match cfg!(target_os = "macos") {
            true => home.join("Library").join("Application Support"),
            false => etcetera::choose_base_strategy().context("the home folder is not known")?.config_dir(),
        };
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let packages = variable("LOCALAPPDATA").filter(|_| cfg!(windows)).map(|local| local.join("Packages"));
        let project = std::env::current_dir().context("this folder is not known")?;
        Ok(Self { home, config, project, codex: variable("CODEX_HOME"), packages })
    }

    /// The folder of Claude Desktop. As an MSIX package it sees a folder of its own in place of the usual one.
    pub(super) fn claude(&self) -> PathBuf {
        let packages = self.packages.as_ref().and_then(|packages| fs::read_dir(packages).ok()).into_iter().flatten();
        let own = packages.flatten().filter(|package| package.file_name().to_string_lossy().starts_with("Claude_"));
        let folders = own.map(|package| package.path().join("LocalCache").join("Roaming").join("Claude"));
        // Of several, the one that it has used.
        let packaged = folders.max_by_key(|folder| (folder.exists(), folder.clone()));
        packaged.unwrap_or_else(|| self.config.join("Claude"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::App, *};

    fn places(folder: &Path) -> Places {
        let path = |name: &str| folder.join(name);
        Places { home: path("home"), config: path("config"), project: path("project"), codex: None, packages: None }
    }

    /// i04
    #[test]
    fn codex_has_a_folder_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let usual = places(folder.path());
        let moved = Places { codex: Some(folder.path().join("codex")), ..places(folder.path()) };

        assert_eq!(App::Codex.file(&usual), folder.path().join("home/.codex/config.toml"));
        assert_eq!(App::Codex.file(&moved), folder.path().join("codex/config.toml"));
    }

    /// Section 9, "Claude Desktop as an MSIX package on Windows"
    #[test]
    fn claude_desktop_as_a_package_has_a_folder_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let packages = folder.path().join("Packages");
        let own = Places { packages: Some(packages.clone()), ..places(folder.path()) };
        let file = |folder: PathBuf| folder.join("claude_desktop_config.json");
        let packaged = |name: &str| packages.join(name).join("LocalCache").join("Roaming").join("Claude");

        assert_eq!(App::Claude.file(&own), file(folder.path().join("config").join("Claude")));
        fs::create_dir_all(packages.join("Other_1")).unwrap();
        assert_eq!(App::Claude.file(&own), file(folder.path().join("config").join("Claude")));
        fs::create_dir_all(packages.join("Claude_z")).unwrap();
        assert_eq!(App::Claude.file(&own), file(packaged("Claude_z")));
        fs::create_dir_all(packaged("Claude_a")).unwrap();
        assert_eq!(App::Claude.file(&own), file(packaged("Claude_a")), "the one that was used");
    }

    /// The table of docs/mcpl.md: a program, and its file on Linux, macOS and Windows.
    fn table() -> Vec<[String; 4]> {
        let document = include_str!("../../../../docs/mcpl.md");
        let rows = document.lines().skip_while(|line| !line.starts_with("| Program | Linux | macOS | Windows |"));
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        let cells = |line: &str| -> Vec<String> {
            line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').replace('\\', "/")).collect()
        };
        rows.map(cells).map(|row| [0, 1, 2, 3].map(|index| row[index].clone())).collect()
    }

    #[test]
    fn the_documented_files_are_those_of_the_code() {
        let systems = [("~", "~/.config"), ("~", "~/Library/Application Support"), ("%USERPROFILE%", "%APPDATA%")];
        let table = table();
        for app in App::ALL {
            let row = table.iter().find(|row| row[0] == app.title()).unwrap_or_else(|| panic!("{app:?} is missing"));
            for (index, (home, config)) in systems.into_iter().enumerate() {
                let path = |path: &str| PathBuf::from(path);
                let places =
                    Places { home: path(home), config: path(config), project: path(""), codex: None, packages: None };

                let file = app.file(&places).to_string_lossy().replace('\\', "/");

                assert_eq!(row[index + 1], file, "{app:?}");
            }
        }
        let packaged = table.iter().find(|row| row[0].contains("MSIX")).unwrap();
        assert_eq!(
            packaged[3],
            "%LOCALAPPDATA%/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json"
        );
        assert_eq!(table.len(), App::ALL.len() + 1, "each program once");
    }

    /// Where it runs, the folders are those of the system.
    #[test]
    fn the_usual_folders_are_those_of_the_system() {
        let places = Places::usual().unwrap();
        let home = etcetera::home_dir().unwrap();
        let config = if cfg!(windows) {
            PathBuf::from(std::env::var_os("APPDATA").unwrap())
        } else if cfg!(target_os = "macos") {
            home.join("Library/Application Support")
        } else {
            std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from)
        };

        assert_eq!((places.home, places.config), (home, config));
        assert_eq!(places.packages.is_some(), cfg!(windows));
    }
}
