//! The findings of `mcpl doctor`. URLs in them have no query and no user name, as in the log: both may be secret.

use serde::Serialize;

use crate::{
    endpoint,
    output::{GOOD, NOTE, PROBLEM, print, printable_line},
};

/// The column in which findings begin.
const INDENT: usize = 22;

/// The finding of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The name of the check.
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    /// Which clients are affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clients: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Nothing is wrong.
    Ok,
    /// Worth knowing: it stops no client, or only some.
    Note,
    /// It stops clients.
    Problem,
}

/// The findings of an examination, in their order.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        let found = endpoint::without_queries(&found.into());
        self.findings.push(Finding { check, level: Level::Ok, found, clients: None, fix: None });
    }

    /// Adds a note: which clients are affected, if any, and the fix.
    pub(super) fn note(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        clients: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(check, Level::Note, found.into(), clients.into(), fix.into());
    }

    /// Adds a problem: which clients are affected, and the fix.
    pub(super) fn problem(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        clients: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(check, Level::Problem, found.into(), clients.into(), fix.into());
    }

    pub(super) fn add(&mut self, check: &'static str, level: Level, found: String, clients: String, fix: String) {
        let clients = Some(clients).filter(|clients| !clients.is_empty());
        let [found, fix] = [found, fix].map(|text| endpoint::without_queries(&text));
        self.findings.push(Finding { check, level, found, clients, fix: Some(fix) });
    }

    /// Whether no finding is a problem.
    pub(super) fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Problem)
    }

    /// Whether a check has found a problem.
    pub(super) fn has_problem(&self, check: &str) -> bool {
        self.findings.iter().any(|own| own.check == check && own.level == Level::Problem)
    }

    /// Prints the findings for people.
    pub(super) fn print(&self) {
        for finding in &self.findings {
            let (style, word) = match finding.level {
                Level::Ok => (GOOD, "ok"),
                Level::Note => (NOTE, "note"),
                Level::Problem => (PROBLEM, "PROBLEM"),
            };
            print(&format!("{style}{word:<8}{style:#}{:<14}{}", finding.check, printable_line(&finding.found)));
            if let Some(clients) = &finding.clients {
                print(&format!("{:INDENT$}affects {}", "", printable_line(clients)));
            }
            if let Some(fix) = &finding.fix {
                print(&format!("{:INDENT$}-> {}", "", printable_line(fix)));
            }
        }
    }
}
