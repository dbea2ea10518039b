//! Changes of the schema that Aurora DSQL accepts.
//!
//! | Statement | Result | Source |
//! | --- | --- | --- |
//! | `CREATE TABLE` with keys, checks, defaults, foreign keys, stored generated columns | accepted | LIVE |
//! | identity columns and sequences without `CACHE 1` or `CACHE ≥ 65536`, or of another type than `bigint` | `0A000` | SUBSETS, RECORDED |
//! | `serial` | `42704` | TROUBLESHOOTING |
//! | columns of other types than those of TYPES, such as arrays, `money`, `inet`, ranges (checked in `sys.sql`) | `0A000` | TYPES, RECORDED |
//! | keys of types without index support: `bytea`, `jsonb`, `interval`, `timetz` (checked in `sys.sql`) | `0A000` | TYPES |
//! | `DEFERRABLE` but for foreign keys | `0A000` | LIVE |
//! | `CREATE INDEX` without `ASYNC`; with `CONCURRENTLY`; with `ASC`, `DESC`, an operator class, a method | `0A000` | TROUBLESHOOTING, LIVE |
//! | more than 8 columns in a key | `54011` | TROUBLESHOOTING |
//! | `ADD COLUMN` with `DEFAULT`, `NOT NULL` or a constraint | `0A000` | LIVE, TROUBLESHOOTING |
//! | `SET NOT NULL`, `SET DATA TYPE`, `ADD CONSTRAINT` without `NOT VALID`, `VALIDATE CONSTRAINT` | `0A000` | LIVE, TROUBLESHOOTING |
//! | `SET DEFAULT`, `DROP DEFAULT`, `DROP NOT NULL`, `DROP COLUMN`, `DROP CONSTRAINT`, `RENAME`, `OWNER TO` | accepted | LIVE |
//! | `ALTER TABLE ASYNC … VALIDATE CONSTRAINT` | accepted; no other action is asynchronous | LIVE |
//! | views, schemas, domains, functions in SQL, roles, `GRANT`, `REVOKE`, `COMMENT` | accepted; `GRANT` and `REVOKE` are DDL | LIVE, TROUBLESHOOTING |

use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnDef, ColumnOption, ConstraintCharacteristics, CreateIndex,
    CreateTable, DataType, Expr, GeneratedAs, IndexColumn, ObjectType, SequenceOptions, Statement as Sql,
    TableConstraint, Value,
};

use super::{Job, JobKind, Kind};
use crate::error_response::ErrorResponse;

const MAX_KEY_COLUMNS: usize = 8;
/// Classifies a statement that is neither a query nor part of a transaction.
pub(super) fn kind(statement: &Sql) -> Result<Kind, ErrorResponse> {
    match statement {
        Sql::CreateTable(table) => create_table(table)?,
        Sql::CreateIndex(index) => return create_index(index),
        Sql::AlterTable(table) => table.operations.iter().try_for_each(alter_table)?,
        Sql::CreateView(view) if !(view.temporary || view.materialized) => {}
        Sql::CreateSequence { temporary: false, sequence_options, .. } => cache(Some(sequence_options))?,
        Sql::CreateFunction(function)
            if function.language.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case("sql")) => {}
        Sql::Drop { object_type, .. } => match object_type {
            ObjectType::Table
            | ObjectType::View
            | ObjectType::Index
            | ObjectType::Schema
            | ObjectType::Sequence
            | ObjectType::Role => {}
            other => return Err(ErrorResponse::unsupported(format!("unsupported statement: Drop {other}"))),
        },
        Sql::CreateSchema { .. }
        | Sql::CreateDomain(_)
        | Sql::DropDomain(_)
        | Sql::CreateRole(_)
        | Sql::AlterRole { .. }
        | Sql::AlterIndex { .. }
        | Sql::AlterView { .. }
        | Sql::AlterSchema(_)
        | Sql::AlterDefaultPrivileges(_)
        | Sql::Comment { .. }
        | Sql::Grant(_)
        | Sql::Revoke(_) => {}
        other => {
            let text = other.to_string();
            let name = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            return Err(ErrorResponse::unsupported(format!("unsupported statement: {name}")));
        }
    }
    Ok(Kind::Ddl)
}

fn create_table(table: &CreateTable) -> Result<(), ErrorResponse> {
    let is_special = table.temporary
        || table.unlogged
        || table.external
        || table.query.is_some()
        || table.like.is_some()
        || table.inherits.is_some()
        || table.partition_by.is_some()
        || table.partition_of.is_some()
        || table.on_commit.is_some();
    if is_special {
        return Err(ErrorResponse::unsupported(
            "temporary, unlogged, inherited, partitioned and copied tables are not supported",
        ));
    }
    table.columns.iter().try_for_each(column)?;
    table.constraints.iter().try_for_each(|constraint| match constraint {
        TableConstraint::PrimaryKey(key) => {
            deferral(key.characteristics.as_ref()).and_then(|()| key_columns(&key.columns))
        }
        TableConstraint::Unique(key) => deferral(key.characteristics.as_ref()).and_then(|()| key_columns(&key.columns)),
        TableConstraint::Check(_) | TableConstraint::ForeignKey(_) => Ok(()),
        other => Err(ErrorResponse::unsupported(format!("table constraint {other} not supported"))),
    })
}

fn column(column: &ColumnDef) -> Result<(), ErrorResponse> {
    data_type(&column.data_type)?;
    column.options.iter().try_for_each(|option| match &option.option {
        ColumnOption::Generated {
            generated_as: GeneratedAs::Always | GeneratedAs::ByDefault,
            sequence_options,
            generation_expr,
            ..
        } if generation_expr.is_none() => {
            cache(sequence_options.as_deref())?;
            match &column.data_type {
                DataType::BigInt(_) | DataType::Int8(_) => Ok(()),
                other => Err(ErrorResponse::unsupported(format!(
                    "datatype {} not supported, identity column type must be bigint",
                    other.to_string().to_lowercase()
                ))),
            }
        }
        ColumnOption::PrimaryKey(key) => deferral(key.characteristics.as_ref()),
        ColumnOption::Unique(key) => deferral(key.characteristics.as_ref()),
        _ => Ok(()),
    })
}

fn deferral(characteristics: Option<&ConstraintCharacteristics>) -> Result<(), ErrorResponse> {
    match characteristics.and_then(|own| own.deferrable) {
        Some(true) => Err(ErrorResponse::unsupported("DEFERRABLE constraint not supported")),
        _ => Ok(()),
    }
}

/// Rejects the types that Postgres replaces. Others are checked when the table exists.
fn data_type(own: &DataType) -> Result<(), ErrorResponse> {
    match own.to_string().to_lowercase().as_str() {
        base @ ("serial" | "bigserial" | "smallserial" | "serial4" | "serial8") => {
            Err(ErrorResponse::new("42704", format!("type \"{base}\" does not exist")))
        }
        _ => Ok(()),
    }
}

/// Checks the options of a sequence or an identity column.
fn cache(options: Option<&[SequenceOptions]>) -> Result<(), ErrorResponse> {
    let options = options.unwrap_or_default();
    let other = options.iter().find_map(|option| match option {
        SequenceOptions::DataType(own) if !matches!(own, DataType::BigInt(_) | DataType::Int8(_)) => Some(own),
        _ => None,
    });
    if let Some(other) = other {
        return Err(ErrorResponse::unsupported(format!("sequences of type {other} are not supported")));
    }
    let size = options.iter().find_map(|option| match option {
        SequenceOptions::Cache(Expr::Value(value)) => match &value.value {
            Value::Number(number, _) => number.to_string().parse::<u64>().ok(),
            _ => None,
        },
        _ => None,
    });
    match size {
        Some(1 | 65_536..) => Ok(()),
        _ => Err(ErrorResponse::unsupported("sequences need CACHE 1 or CACHE of at least 65536")),
    }
}

fn create_index(index: &CreateIndex) -> Result<Kind, ErrorResponse> {
    if index.concurrently {
        return Err(ErrorResponse::unsupported("CONCURRENTLY not supported for CREATE INDEX"));
    }
    if !index.r#async {
        return Err(ErrorResponse::unsupported("unsupported mode. please use CREATE INDEX ASYNC."));
    }
    if index.using.is_some() || !index.with.is_empty() {
        return Err(ErrorResponse::unsupported("index methods and parameters are not supported"));
    }
    key_columns(&index.columns)?;
    for column in &index.columns {
        if column.operator_class.is_some() {
            return Err(ErrorResponse::unsupported("opclass not supported for index keys"));
        }
        if column.column.options.sort.is_some() {
            return Err(ErrorResponse::unsupported("specifying sort order not supported for index keys"));
        }
    }
    // As on DSQL, a failed concurrent build leaves an invalid index.
    let build = CreateIndex { r#async: false, concurrently: true, ..index.clone() };
    let keys = index.columns.iter().filter_map(|column| match &column.column.expr {
        Expr::Identifier(name) if name.quote_style.is_none() => Some(name.value.to_lowercase()),
        Expr::Identifier(name) => Some(name.value.clone()),
        _ => None,
    });
    Ok(Kind::Job(Job {
        sql: build.to_string(),
        table: index.table_name.to_string(),
        keys: keys.collect(),
        kind: JobKind::IndexBuild,
    }))
}

/// Classifies `ALTER TABLE ASYNC`, parsed without `ASYNC`.
pub(super) fn validation(statement: &Sql) -> Result<Kind, ErrorResponse> {
    match statement {
        Sql::AlterTable(table) if matches!(table.operations[..], [AlterTableOperation::ValidateConstraint { .. }]) => {
            let kind = JobKind::ConstraintValidation;
            Ok(Kind::Job(Job { sql: statement.to_string(), table: table.name.to_string(), keys: Vec::new(), kind }))
        }
        _ => Err(ErrorResponse::unsupported("unsupported ALTER TABLE ASYNC statement")),
    }
}

fn key_columns(columns: &[IndexColumn]) -> Result<(), ErrorResponse> {
    match columns.len() {
        0..=MAX_KEY_COLUMNS => Ok(()),
        _ => Err(ErrorResponse::new("54011", "more than 8 column keys in an index are not supported")),
    }
}

fn alter_table(operation: &AlterTableOperation) -> Result<(), ErrorResponse> {
    let unsupported = |what: &str| Err(ErrorResponse::unsupported(format!("unsupported ALTER TABLE {what} statement")));
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } if column_def.options.is_empty() => {
            data_type(&column_def.data_type)
        }
        AlterTableOperation::AddColumn { .. } => {
            Err(ErrorResponse::unsupported("ALTER TABLE ADD COLUMN with constraint not supported"))
        }
        AlterTableOperation::AddConstraint { constraint, not_valid } => match constraint {
            TableConstraint::Check(_) | TableConstraint::ForeignKey(_) if *not_valid => Ok(()),
            TableConstraint::UniqueUsingIndex(_) => Ok(()),
            _ => unsupported("ADD CONSTRAINT"),
        },
        AlterTableOperation::AlterColumn { op, .. } => match op {
            AlterColumnOperation::SetDefault { .. }
            | AlterColumnOperation::DropDefault
            | AlterColumnOperation::DropNotNull => Ok(()),
            AlterColumnOperation::AddGenerated { sequence_options, .. } => cache(sequence_options.as_deref()),
            AlterColumnOperation::SetDataType { .. } => unsupported("ALTER COLUMN ... SET DATA TYPE"),
            AlterColumnOperation::SetNotNull => unsupported("ALTER COLUMN ... SET NOT NULL"),
            AlterColumnOperation::GenericOptions { .. } => unsupported("ALTER COLUMN ... OPTIONS"),
        },
        AlterTableOperation::ValidateConstraint { .. } => unsupported("VALIDATE CONSTRAINT"),
        AlterTableOperation::DropColumn { .. }
        | AlterTableOperation::DropConstraint { .. }
        | AlterTableOperation::RenameColumn { .. }
        | AlterTableOperation::RenameTable { .. }
        | AlterTableOperation::RenameConstraint { .. }
        | AlterTableOperation::OwnerTo { .. } => Ok(()),
        other => unsupported(&other.to_string()),
    }
}
