//! What operators ask of the days: how many were here, came back, registered, wrote. Numbers alone: nobody is named, so nothing is noted.

use serde_json::{Value, json};
use tern_shard::counts::{ACTIVE_DAYS_MAX, Counts, RETURN_DAYS};
use tern_shard::limits::{DAY_MS, DAYS_COUNTED};

use super::{Admin, refused};
use crate::counts::{day_of, read};

/// So many days up to now, the newest first, and all together.
pub(super) fn stats(admin: &Admin, days: u32) -> Value {
    if !(1..=DAYS_COUNTED).contains(&days) {
        return refused(format_args!("days are kept: 1 to {DAYS_COUNTED}"));
    }
    match read(&*admin.control) {
        Ok(counts) => json!({ "ok": told(&counts, day_of(admin.node.now_ms()), days) }),
        Err(why) => refused(why),
    }
}

/// Up to `today`, which is not over.
fn told(counts: &Counts, today: u32, days: u32) -> Value {
    let total = counts.total();
    let first = today.saturating_sub(days - 1);
    let days: Vec<_> = (first..=today).rev().map(|day| day_json(counts, day, today)).collect();
    json!({
        "accounts": counts.accounts(),
        "total": {
            "registered": total.registered, "deleted": total.deleted, "direct": total.direct, "group": total.group,
            "groups": total.groups,
        },
        "days": days,
    })
}

fn day_json(counts: &Counts, day: u32, today: u32) -> Value {
    let counted = counts.day(day);
    let mut told = json!({
        "day_ms": u64::from(day) * DAY_MS,
        "active": counts.active(day, 1), "active_7": counts.active(day, 7),
        "active_30": counts.active(day, ACTIVE_DAYS_MAX), "devices": counted.devices,
        "registered": counted.registered, "deleted": counted.deleted, "direct": counted.direct, "group": counted.group,
        "groups": counted.groups,
    });
    for (place, after) in RETURN_DAYS.into_iter().enumerate() {
        // On a day that has not come nobody can have been here.
        let has_come = day.saturating_add(after) <= today;
        told[format!("returned_{after}")] =
            if has_come { counts.returned(day, place).into() } else { Value::Null };
    }
    told
}

#[cfg(test)]
mod tests {
    use tern_storage::records::CountsRecord;

    use super::*;

    #[test]
    fn a_day_that_has_not_come_is_none_and_no_zero() {
        let mut counts = Counts::default();
        counts.add(100, &CountsRecord { active: vec![3], registered: 3, ..CountsRecord::default() });
        counts.add(107, &CountsRecord { returned: vec![0, 2], ..CountsRecord::default() });
        let told = told(&counts, 107, 8);
        let days = told["days"].as_array().expect("days");
        assert_eq!(days.len(), 8);
        let cohort = &days[7];
        assert_eq!((&cohort["registered"], &cohort["returned_1"]), (&3.into(), &0.into()));
        assert_eq!((&cohort["returned_7"], &cohort["returned_30"]), (&2.into(), &Value::Null));
        assert_eq!((&days[0]["active"], &days[0]["active_30"]), (&0.into(), &3.into()));
    }
}
