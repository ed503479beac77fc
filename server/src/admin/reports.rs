//! What operators ask of reports: which there are, what one says, and that it is done with. Whoever looks into one is noted.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tern_proto::v1::{Category, Kind};
use tern_shard::admin::{AdminRequest, AdminResponse, ReportId, ReportView};
use tern_storage::records::ReportedMessage;
use tern_wire::ids::UserId;

use super::{Admin, REASON_BYTES_MAX, refused};
use crate::control::{ANY, owner_of_user};

/// A line for each report, without what it says, then one with `done`.
pub(super) fn list(admin: &Admin, connection: &UnixStream, open: bool) -> std::io::Result<()> {
    let of = |answer| match answer {
        AdminResponse::Reports { reports, next } => Some((reports, next)),
        _ => None,
    };
    admin.list(connection, |after| AdminRequest::Reports(after, open), of, line_json)
}

/// All that a report says.
pub(super) fn show(admin: &Admin, id: &str, operator: &str) -> Value {
    let Some(report) = parse(id) else { return no_id() };
    let answer = admin.told(ANY, AdminRequest::Report(report));
    admin.note(
        operator,
        "look at a report",
        &json!({ "report": id, "user": report.reported.get() }),
        &answer,
    );
    answer
}

/// A report is done with, and who is reported suspended for so long.
pub(super) fn resolve(
    admin: &Admin,
    id: &str,
    how: &str,
    suspend_for_ms: Option<u64>,
    operator: &str,
) -> Value {
    let Some(report) = parse(id) else { return no_id() };
    if how.trim().is_empty() || how.len() > REASON_BYTES_MAX {
        return refused("what came of it is needed, in up to 256 bytes: who comes after you reads it");
    }
    if let Some(for_ms) = suspend_for_ms {
        let suspended = admin.suspend(&report.reported.get().to_string(), how, for_ms, operator);
        if suspended.get("ok").is_none() {
            return suspended;
        }
    }
    let owner = owner_of_user(&*admin.control, report.reported);
    let answer = admin.told(owner, AdminRequest::Resolve(report, how.to_owned()));
    let what = json!({ "report": id, "user": report.reported.get(), "as": how });
    admin.note(operator, "resolve a report", &what, &answer);
    answer
}

fn no_id() -> Value {
    refused("that is no report's id: three numbers as `ternctl reports list` shows them, 1-2-3")
}

/// `None` if it is none.
fn parse(id: &str) -> Option<ReportId> {
    let mut numbers = id.split('-').map(|number| number.parse::<u64>().ok());
    let [reported, reporter, number] = [numbers.next()??, numbers.next()??, numbers.next()??];
    let is_all = numbers.next().is_none();
    is_all.then_some(())?;
    Some(ReportId { reported: UserId::new(reported)?, reporter: UserId::new(reporter)?, number })
}

fn name_of(category: i32) -> String {
    let known = Category::try_from(category).map_or("OTHER", |category| category.as_str_name());
    known.trim_start_matches("CATEGORY_").to_ascii_lowercase()
}

fn line_json(ReportView { id, record }: &ReportView) -> Value {
    let ReportId { reported, reporter, number } = id;
    json!({
        "id": format!("{}-{}-{number}", reported.get(), reporter.get()), "user_id": reported.get(),
        "by_user_id": reporter.get(), "time_ms": record.created_ms, "category": name_of(record.category),
        "messages": record.messages.len(), "strangers": record.strangers,
        "resolved_ms": record.resolved_ms, "resolved_as": record.resolved_as,
    })
}

pub(super) fn report_json(report: &ReportView) -> Value {
    let record = &report.record;
    let message = |message: &ReportedMessage| {
        let kind = Kind::try_from(message.kind).map_or("UNKNOWN", |kind| kind.as_str_name());
        let mut told = json!({
            "seq": message.seq, "time_ms": message.time_ms, "bytes": message.bytes, "about": message.about,
            "kind": kind.trim_start_matches("KIND_").to_ascii_lowercase(),
        });
        match std::str::from_utf8(&message.body) {
            Ok(text) => told["text"] = text.into(),
            Err(error) => {
                // The end of a text may be cut within a letter.
                let whole = std::str::from_utf8(&message.body[..error.valid_up_to()]).unwrap_or_default();
                let is_cut = error.error_len().is_none() && message.bytes as usize > message.body.len();
                let hex = || message.body.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                told[if is_cut { "text" } else { "hex" }] = if is_cut { whole.into() } else { hex().into() };
            }
        }
        told
    };
    let mut told = line_json(report);
    told["comment"] = record.comment.as_str().into();
    told["group"] = record.group.into();
    told["messages"] = record.messages.iter().map(message).collect::<Vec<_>>().into();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_three_numbers() {
        let id = parse("7-8-9").expect("it is one");
        assert_eq!((id.reported.get(), id.reporter.get(), id.number), (7, 8, 9));
        for bad in ["", "7", "7-8", "7-8-9-10", "7-8-x", "0-8-9", "-8-9", "7--9", "7-8-18446744073709551616"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
