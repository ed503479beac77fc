//! Days, UTC and each user's own.

use tern_wire::ids::UserId;

use crate::limits::DAY_MS;

/// The day of a time, counted from the Unix epoch.
pub(crate) fn day_of(time_ms: u64) -> u32 {
    (time_ms / DAY_MS).try_into().unwrap_or(u32::MAX)
}

/// Whether a day of its user's has begun between two times: each user's begins at another moment, so that what is noted once a
/// day is not noted for all at once.
pub(crate) fn another_day(user: UserId, before_ms: u64, now_ms: u64) -> bool {
    let shift_ms = (user.get() >> 12) % DAY_MS;
    before_ms.saturating_add(shift_ms) / DAY_MS != now_ms.saturating_add(shift_ms) / DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_day_begins_once_a_day_and_not_for_all_at_once() {
        let mut hours = std::collections::BTreeSet::new();
        for number in 1..200u64 {
            let user = UserId::new((number * 40_503_001 % (1 << 30)) << 12).expect("a user's");
            let begins: Vec<u64> =
                (0..96).filter(|hour| another_day(user, hour * 3_600_000, (hour + 1) * 3_600_000)).collect();
            assert_eq!(begins.len(), 4);
            hours.insert(begins[0]);
        }
        assert!(hours.len() > 20, "{hours:?}");
    }
}
