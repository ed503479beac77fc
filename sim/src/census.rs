//! What the store has counted of days, beside what it holds: an account that is made, ends or is here is counted in the batch that says so,
//! so that no crash, no retry and no move makes the two differ.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use tern_storage::LogId;
use tern_storage::keys;
use tern_storage::records::{CountsRecord, DeviceRecord, UserRecord};

use crate::books::Log;
use crate::talk::says;

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Census {
    /// By day, all parts together.
    days: BTreeMap<u32, Day>,
}

#[derive(Default, Debug)]
struct Day {
    active: u64,
    devices: u64,
    registered: u64,
    deleted: u64,
    direct: u64,
    group: u64,
    groups: u64,
}

impl Census {
    /// Takes a row. `None`: it is none.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (day, _) = keys::day_of_counts(key)?;
        let record = CountsRecord::decode(value).ok()?;
        let day = self.days.entry(day).or_default();
        day.active += record.active.iter().sum::<u64>();
        day.devices += record.devices;
        day.registered += record.registered;
        day.deleted += record.deleted;
        day.direct += record.direct;
        day.group += record.group;
        day.groups += record.groups;
        Some(())
    }

    fn sum(&self, of: impl Fn(&Day) -> u64) -> u64 {
        self.days.values().map(of).sum()
    }

    /// - Each account that there is or was has been counted once when it was made, and once when it ended.
    /// - Each account that was here last on the newest day has been counted on it once; who has ended since is counted still.
    /// - No day counts more accounts than there were.
    /// - No more messages and groups are counted than there are. A crash loses some.
    pub(crate) fn holds(
        &self,
        users: &BTreeMap<u64, UserRecord>,
        devices: &BTreeMap<(u64, u32), DeviceRecord>,
        logs: &BTreeMap<LogId, Log>,
    ) -> Result<(), String> {
        let ended = users.values().filter(|record| record.deleted_ms > 0).count() as u64;
        let counted = (self.sum(|day| day.registered), self.sum(|day| day.deleted));
        if counted != (users.len() as u64, ended) {
            return Err(format!("of {} accounts {ended} ended, and {counted:?} are counted", users.len()));
        }
        if let Some((day, counts)) = self.days.iter().find(|(_, counts)| counts.active > users.len() as u64) {
            return Err(format!(
                "on day {day} there were {} accounts, and {counts:?} is counted",
                users.len()
            ));
        }
        if let Some(newest) = devices.values().map(|device| device.seen_day).max() {
            let seen = |device: &(&(u64, u32), &DeviceRecord)| device.1.seen_day == newest;
            let here: BTreeSet<_> = devices.iter().filter(seen).map(|((user, _), _)| *user).collect();
            let (here, devices) = (here.len() as u64, devices.iter().filter(seen).count() as u64);
            let (active, counted) =
                self.days.get(&newest).map_or((0, 0), |counts| (counts.active, counts.devices));
            if !(here..=here + ended).contains(&active) || counted < devices {
                return Err(format!(
                    "on day {newest} {here} accounts with {devices} devices were here last, {ended} have ended, and {active} with \
                     {counted} are counted"
                ));
            }
        }
        self.counts_messages(logs)
    }

    fn counts_messages(&self, logs: &BTreeMap<LogId, Log>) -> Result<(), String> {
        let said = |is_one: fn(&LogId) -> bool| {
            let entries = logs.iter().filter(|(id, _)| is_one(id)).flat_map(|(_, log)| &log.entries);
            entries.filter(|entry| says(entry.kind)).count() as u64
        };
        let groups = |id: &LogId| matches!(id, LogId::Group(_));
        let there = [
            said(|id| matches!(id, LogId::Direct(..))),
            said(|id| matches!(id, LogId::Group(_))),
            logs.iter().filter(|(id, log)| groups(id) && log.head() > 0).count() as u64,
        ];
        let counted = [self.sum(|day| day.direct), self.sum(|day| day.group), self.sum(|day| day.groups)];
        if counted.iter().zip(there).any(|(counted, there)| *counted > there) {
            return Err(format!(
                "direct, in groups, groups: {counted:?} are counted, and {there:?} are there"
            ));
        }
        Ok(())
    }
}
