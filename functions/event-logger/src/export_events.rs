//! The `export_events` tool: counts the events of each day. A call is a task, which may take longer than a request.

use std::{future::ready, time::Duration};

use garde::Validate;
use mcp_lambda::{HandlerError, InteractiveContext, Json, RateLimit, Task, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::{READ, State, events};

/// Lifetime of an export and of its result.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// An export is up to 366 queries, each over a day.
const EXPORTS_PER_HOUR: u32 = 20;

pub(crate) fn tool() -> Tool<State> {
    Tool::new("export_events", export_events)
        .title("Export events by day")
        .description(
            "Exports how many events were logged on each of the last days, in UTC. Use it for statistics over a long time.",
        )
        .require_scope(READ)
        .read_only()
        .idempotent()
        .open_world(false)
        .limit(RateLimit::per_caller(EXPORTS_PER_HOUR, Duration::from_secs(60 * 60)))
        .task(Task::ttl(TTL))
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct ExportEventsArgs {
    /// How many days to export, today included; 1 to 366, 30 unless given.
    #[serde(default = "default_days")]
    #[garde(range(min = 1, max = 366))]
    days: i32,
}

fn default_days() -> i32 {
    30
}

#[derive(Debug, Serialize, JsonSchema)]
struct Export {
    /// Number of events of all days.
    total: i64,
    /// The days, the earliest first.
    days: Vec<ExportedDay>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExportedDay {
    /// The day in UTC, such as 2026-07-28.
    #[schemars(extend("format" = "date"))]
    day: String,
    /// Number of events of the day.
    count: i64,
}

async fn export_events(
    context: InteractiveContext<State>,
    args: ExportEventsArgs,
) -> Result<Json<Export>, HandlerError> {
    // A run after midnight exports the same days.
    let today = ready(Ok::<_, HandlerError>(OffsetDateTime::now_utc().to_julian_day()));
    let last = context.once("last day", today).await?;
    let mut days = Vec::new();
    for day in (last - args.days + 1)..=last {
        // Each day is a step, so that a run continues after the last day that an earlier one has counted.
        let count = context.once(&format!("day {day}"), count(&context, day)).await?;
        // Only days of years beyond 9999 are no dates.
        let date = Date::from_julian_day(day).map(|date| date.to_string()).unwrap_or_default();
        days.push(ExportedDay { day: date, count });
        context.status(format!("{} of {} days", days.len(), args.days));
    }
    let text = days.iter().map(|own| format!("{}: {}", own.day, own.count)).collect::<Vec<_>>().join("\n");
    Ok(Json(Export { total: days.iter().map(|own| own.count).sum(), days }).with_text(text))
}

async fn count(context: &InteractiveContext<State>, day: i32) -> Result<i64, HandlerError> {
    let midnight = |day| Ok::<_, time::error::ComponentRange>(Date::from_julian_day(day)?.midnight().assume_utc());
    Ok(events::count(context, midnight(day)?, midnight(day + 1)?).await?)
}
