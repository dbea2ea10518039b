//! Allow-list of the statements that Aurora DSQL accepts. Each statement is parsed, classified, and rejected if it is not on the list.
//!
//! The parser is [`sqlparser`], which supports `CREATE INDEX ASYNC`. A statement that it cannot parse is rejected, so the emulator is
//! never more permissive than its list. Sources:
//!
//! | Source | Document |
//! | --- | --- |
//! | SUBSETS | <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility-supported-sql-subsets.html> |
//! | MIGRATION | <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility-migration-guide.html> |
//! | DDL | <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-ddl.html> |
//! | TYPES | <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility-supported-data-types.html> |
//! | LIVE | statements that a public project ran on a cluster on 2026-10-03 |
//! | RECORDED | answers of a cluster on 2026-09-18, in `test/conformance/golden` of <https://github.com/Dreamescaper/dsql-emulator> |
//! | TROUBLESHOOTING | see the module `error_response` |
//! | STRICT | not documented: rejected, so that functions do not depend on it |
//!
//! | Statement | Result | Source |
//! | --- | --- | --- |
//! | `SELECT`, `INSERT`, `UPDATE`, `DELETE`, `EXPLAIN`, `SHOW` | accepted | SUBSETS |
//! | `BEGIN`, `COMMIT`, `ROLLBACK`, without an isolation level or with `REPEATABLE READ` | accepted | SUBSETS |
//! | another isolation level | `0A000` | MIGRATION: one isolation level |
//! | `SET TRANSACTION`, `SET SESSION CHARACTERISTICS`, also with `REPEATABLE READ` | `0A000` | RECORDED |
//! | `FOR UPDATE` | accepted | RECORDED |
//! | `FOR SHARE`, `FOR NO KEY UPDATE` | `0A000` | RECORDED |
//! | `TABLESAMPLE`, text search | `0A000` | RECORDED |
//! | `SAVEPOINT`, `RELEASE`, `ROLLBACK TO` | `0A000` | MIGRATION |
//! | `TRUNCATE` | `0A000` | MIGRATION: use `DELETE` |
//! | `DO`, PL/pgSQL, triggers, extensions, types, databases, rules, policies | `0A000` | MIGRATION |
//! | temporary and unlogged tables, inheritance, partitions, `CREATE TABLE AS` | `0A000` | MIGRATION |
//! | `LOCK`, advisory locks, `LISTEN`, `NOTIFY`, cursors, `COPY`, `VACUUM` | `0A000` | MIGRATION; cursors: STRICT; `COPY`: DSQL has it, no function uses it |
//! | `PREPARE`, `EXECUTE`, `DEALLOCATE`, `DISCARD` | `0A000` | STRICT |
//! | system columns: `xmin`, `xmax`, `cmin`, `cmax`, `ctid`, `tableoid` | `0A000` | STRICT |
//! | `SET` of anything but a few settings of a session | `0A000` | STRICT |
//! | several statements in one message | `0A000` | STRICT |
//! | `CALL sys.wait_for_job` | accepted; other procedures `0A000` | LIVE |
//! | `AWS IAM GRANT`, `AWS IAM REVOKE` | accepted | <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html> |
//! | tables, indexes, sequences, constraints | see the module `schema` | |

use std::ops::ControlFlow;

use sqlparser::{
    ast::{
        Expr, Function, Ident, LockType, ObjectName, Query, Select, Set, Statement as Sql, TableFactor,
        TransactionIsolationLevel, TransactionMode, Visit, Visitor,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use crate::error_response::ErrorResponse;

mod schema;

/// Maximum length of a statement in bytes.
const MAX_SQL: usize = 128 * 1024;
/// Maximum number of words and operators of a statement: each can make its syntax tree one level deeper. The parser limits the
/// nesting of parentheses itself.
const MAX_DEPTH: usize = 4000;
/// Stack size of the parsing thread, enough for a tree of that depth.
const PARSER_STACK: usize = 256 * 1024 * 1024;

/// Functions of locks, sessions, files and text search, none of which DSQL has (MIGRATION, STRICT, RECORDED).
const FUNCTIONS: [&str; 15] = [
    "pg_advisory_",
    "pg_try_advisory_",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_notify",
    "pg_sleep",
    "set_config",
    "lo_",
    "pg_read_",
    "dblink",
    "to_tsvector",
    "to_tsquery",
    "plainto_tsquery",
    "phraseto_tsquery",
    "websearch_to_tsquery",
];
const SYSTEM_COLUMNS: [&str; 6] = ["xmin", "xmax", "cmin", "cmax", "ctid", "tableoid"];
/// Session settings that clients send when they connect.
const SETTINGS: [&str; 6] =
    ["search_path", "timezone", "datestyle", "client_encoding", "application_name", "extra_float_digits"];

/// A statement that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    /// The text for Postgres.
    pub(crate) sql: String,
}

/// The kind of a statement, by its effect on the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An empty statement, or only comments.
    Empty,
    Begin,
    Commit,
    Rollback,
    /// A statement that neither reads nor writes rows.
    Session,
    Read,
    Write,
    Ddl,
    /// A statement that starts an asynchronous job.
    Job(Job),
    WaitForJob,
}

/// An asynchronous job: its statement for Postgres, its table, and the columns that are keys of its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) sql: String,
    pub(crate) table: String,
    pub(crate) keys: Vec<String>,
    pub(crate) kind: JobKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    IndexBuild,
    ConstraintValidation,
}

impl JobKind {
    /// Returns the tag of the command that starts the job.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::IndexBuild => "CREATE INDEX",
            Self::ConstraintValidation => "ALTER TABLE",
        }
    }
}

/// Parses and classifies a statement.
///
/// # Errors
///
/// The error response for a statement that DSQL or the parser does not accept.
pub(crate) fn classify(sql: &str) -> Result<Statement, ErrorResponse> {
    if sql.len() > MAX_SQL {
        return Err(ErrorResponse::new("54000", format!("statement has more than {MAX_SQL} bytes")));
    }
    // The parser does not limit chains of operators, which become deep trees.
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, || parse(sql));
        let failed = || ErrorResponse::new("54001", "stack depth limit exceeded");
        parser.map_err(|_| failed())?.join().map_err(|_| failed())?
    })
}

fn parse(sql: &str) -> Result<Statement, ErrorResponse> {
    let unparsed =
        |error: String| ErrorResponse::unsupported(format!("the emulator cannot parse the statement: {error}"));
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().map_err(|error| unparsed(error.to_string()))?;
    if tokens.iter().filter(|token| deepens(token)).count() > MAX_DEPTH {
        return Err(ErrorResponse::new("54001", "stack depth limit exceeded"));
    }
    if let Some(statement) = iam(&tokens) {
        return statement;
    }
    let (tokens, is_async) = remove_async(tokens);
    let parsed = Parser::new(&PostgreSqlDialect {}).with_tokens(tokens).parse_statements();
    let parsed = parsed.map_err(|error| unparsed(error.to_string()))?;
    let (statement, more) = match parsed.split_first() {
        None => return Ok(Statement { kind: Kind::Empty, sql: sql.to_owned() }),
        Some((statement, more)) => (statement, more),
    };
    if !more.is_empty() {
        return Err(ErrorResponse::unsupported("several statements in one message are not supported"));
    }
    let kind = if is_async { schema::validation(statement)? } else { kind(statement)? };
    // The placeholder of a job has the column of DSQL's result, for clients that describe the statement before they execute it.
    let text = if let Kind::Job(_) = kind { "SELECT NULL::text AS job_id" } else { sql };
    Ok(Statement { kind, sql: text.to_owned() })
}

fn deepens(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
    )
}

fn kind(statement: &Sql) -> Result<Kind, ErrorResponse> {
    let mut inspection = Inspection { writes: false };
    if let ControlFlow::Break(error) = statement.visit(&mut inspection) {
        return Err(error);
    }
    match statement {
        Sql::Query(_) if inspection.writes => Ok(Kind::Write),
        Sql::Query(_) => Ok(Kind::Read),
        Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_) => Ok(Kind::Write),
        Sql::Explain { analyze: true, statement, .. } => kind(statement),
        Sql::Explain { statement, .. } => kind(statement).map(|_| Kind::Read),
        Sql::ShowVariable { .. } => Ok(Kind::Session),
        Sql::StartTransaction { modes, statements, .. } if statements.is_empty() => {
            isolation(modes)?;
            Ok(Kind::Begin)
        }
        Sql::Commit { chain: false, .. } => Ok(Kind::Commit),
        Sql::Rollback { chain: false, savepoint: None } => Ok(Kind::Rollback),
        Sql::Set(set) => self::set(set).map(|()| Kind::Session),
        Sql::Call(Function { name, .. }) if is_wait_for_job(name) => Ok(Kind::WaitForJob),
        Sql::Call(_) => Err(ErrorResponse::unsupported("PROCEDURE is not supported")),
        other => schema::kind(other),
    }
}

fn is_wait_for_job(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case("sys.wait_for_job")
}

fn isolation(modes: &[TransactionMode]) -> Result<(), ErrorResponse> {
    let is_other = |mode: &TransactionMode| matches!(mode, TransactionMode::IsolationLevel(level) if *level != TransactionIsolationLevel::RepeatableRead);
    match modes.iter().any(is_other) {
        true => Err(ErrorResponse::unsupported("isolation level is not supported: the only one is REPEATABLE READ")),
        false => Ok(()),
    }
}

fn set(set: &Set) -> Result<(), ErrorResponse> {
    let unsupported =
        |name: String| ErrorResponse::unsupported(format!("setting configuration parameter \"{name}\" not supported"));
    match set {
        Set::SingleAssignment { variable, .. } => {
            let name = variable.to_string().to_lowercase();
            if SETTINGS.contains(&name.as_str()) { Ok(()) } else { Err(unsupported(name)) }
        }
        Set::SetTimeZone { .. } | Set::SetNames { .. } => Ok(()),
        Set::SetTransaction { .. } => Err(unsupported("TRANSACTION".to_owned())),
        other => Err(unsupported(other.to_string())),
    }
}

/// Searches a statement for clauses, functions and columns that DSQL does not have, and for writes within a query.
struct Inspection {
    writes: bool,
}

impl Visitor for Inspection {
    type Break = ErrorResponse;

    fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<ErrorResponse> {
        self.writes |= matches!(statement, Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_) | Sql::Merge(_));
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<ErrorResponse> {
        match query.locks.iter().any(|lock| lock.lock_type == LockType::Share) {
            true => ControlFlow::Break(ErrorResponse::unsupported(
                "locking clauses other than FOR UPDATE/FOR KEY SHARE are not supported",
            )),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<ErrorResponse> {
        match table {
            TableFactor::Table { sample: Some(_), .. } => {
                ControlFlow::Break(ErrorResponse::unsupported("TABLESAMPLE clause not supported"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<ErrorResponse> {
        match select.into {
            Some(_) => ControlFlow::Break(ErrorResponse::unsupported("SELECT INTO is not supported")),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<ErrorResponse> {
        function(name)
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<ErrorResponse> {
        match expression {
            Expr::Function(called) => function(&called.name),
            Expr::Identifier(name) => column(Some(name)),
            Expr::CompoundIdentifier(names) => column(names.last()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn function(name: &ObjectName) -> ControlFlow<ErrorResponse> {
    let last = name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase()).unwrap_or_default();
    match FUNCTIONS.iter().any(|prefix| last.starts_with(prefix)) {
        true => ControlFlow::Break(ErrorResponse::unsupported(format!("function {last} is not supported"))),
        false => ControlFlow::Continue(()),
    }
}

fn column(name: Option<&Ident>) -> ControlFlow<ErrorResponse> {
    match name.filter(|name| SYSTEM_COLUMNS.contains(&name.value.to_lowercase().as_str())) {
        Some(name) => {
            ControlFlow::Break(ErrorResponse::unsupported(format!("system column {} is not supported", name.value)))
        }
        None => ControlFlow::Continue(()),
    }
}

/// Removes `ASYNC` from `ALTER TABLE ASYNC …`, which the parser does not support. Returns whether it was present.
fn remove_async(mut tokens: Vec<Token>) -> (Vec<Token>, bool) {
    let is_word = |token: &Token, word: &str| match token {
        Token::Word(own) => own.quote_style.is_none() && own.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    let words = tokens.iter().enumerate().filter(|(_, token)| !matches!(token, Token::Whitespace(_)));
    let mut found = None;
    for ((at, token), expected) in words.zip(["ALTER", "TABLE", "ASYNC"]) {
        if !is_word(token, expected) {
            return (tokens, false);
        }
        found = (expected == "ASYNC").then_some(at);
    }
    if let Some(at) = found {
        tokens.remove(at);
    }
    (tokens, found.is_some())
}

/// Parses `AWS IAM GRANT role TO 'arn'` and `AWS IAM REVOKE role FROM 'arn'`, which change rows of `sys.iam_pg_role_mappings`.
fn iam(tokens: &[Token]) -> Option<Result<Statement, ErrorResponse>> {
    let tokens: Vec<&Token> =
        tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon)).take(7).collect();
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    };
    if (word(0).as_str(), word(1).as_str()) != ("AWS", "IAM") {
        return None;
    }
    let role = match tokens.get(3) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_lowercase(),
        Some(Token::Word(word)) => word.value.clone(),
        _ => String::new(),
    };
    let arn = match tokens.get(5) {
        Some(Token::SingleQuotedString(arn)) if tokens.len() == 6 && !role.is_empty() => literal(arn),
        _ => return Some(Err(ErrorResponse::new("42601", "expected AWS IAM GRANT role TO 'arn'"))),
    };
    let role = format!("{}::regrole::text", literal(&format!("\"{}\"", role.replace('"', "\"\""))));
    let sql = match (word(2).as_str(), word(4).as_str()) {
        ("GRANT", "TO") => {
            format!("INSERT INTO sys.iam_pg_role_mappings VALUES ({role}, {arn}) ON CONFLICT DO NOTHING")
        }
        ("REVOKE", "FROM") => {
            format!("DELETE FROM sys.iam_pg_role_mappings WHERE pg_role_name = {role} AND arn = {arn}")
        }
        _ => return Some(Err(ErrorResponse::new("42601", "expected AWS IAM GRANT or AWS IAM REVOKE"))),
    };
    Some(Ok(Statement { kind: Kind::Ddl, sql }))
}

/// Quotes a string.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests;
