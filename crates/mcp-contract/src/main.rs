//! `mcp-contract`: compares and writes the lock files of functions, for scripts/contract.py.
//!
//! ```text
//! mcp-contract check LOCK CONTRACT               compares; ends with 1 if the lock file is out of date
//! mcp-contract update LOCK CONTRACT [NAME…]      writes the lock file, and accepts breaking changes by name
//! mcp-contract review EARLIER LOCK               ends with 1 if a breaking change since an earlier lock file was not accepted by name
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::{env, fs, path::Path, process::ExitCode};

use mcp_contract::{Change, Class, Contract, Lock, LockError, compare};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match &arguments[..] {
        ["check", lock, contract] => check(Path::new(lock), Path::new(contract)),
        ["update", lock, contract, accept @ ..] => update(Path::new(lock), Path::new(contract), accept),
        ["review", earlier, lock] => review(Path::new(earlier), Path::new(lock)),
        _ => {
            eprintln!("usage: mcp-contract check|update LOCK CONTRACT [NAME…], mcp-contract review EARLIER LOCK");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(is_current) => ExitCode::from(u8::from(!is_current)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(lock: &Path, contract: &Path) -> Result<bool, String> {
    let lock = read_lock(lock)?;
    let contract = read(contract)?;
    let changes = compare(lock.contract(), &contract);
    print(&changes);
    Ok(changes.is_empty() && *lock.contract() == contract)
}

fn update(path: &Path, contract: &Path, accept: &[&str]) -> Result<bool, String> {
    let contract = read(contract)?;
    let (lock, changes) = if path.exists() {
        let mut lock = read_lock(path)?;
        match lock.update(contract, accept) {
            Ok(changes) => (lock, changes),
            Err(LockError::Breaking(changes)) => {
                print(&changes);
                return Ok(false);
            }
            Err(error) => return Err(error.to_string()),
        }
    } else {
        (Lock::new(contract), Vec::new())
    };
    print(&changes);
    fs::write(path, lock.to_text()).map_err(|error| format!("could not write {}: {error}", path.display()))?;
    Ok(true)
}

fn review(earlier: &Path, lock: &Path) -> Result<bool, String> {
    let changes = read_lock(lock)?.unaccepted_since(&read_lock(earlier)?);
    print(&changes);
    Ok(changes.is_empty())
}

fn print(changes: &[Change]) {
    for change in changes {
        let note = match change.class == Class::Compatible && !change.is_reversible {
            true => "  (one-way)",
            false => "",
        };
        println!("  {change}{note}");
    }
}

fn read_lock(path: &Path) -> Result<Lock, String> {
    Lock::parse(&text_of(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Contract, String> {
    Contract::parse(&text_of(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("could not read {}: {error}", path.display()))
}
