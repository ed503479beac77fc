//! How many messages and groups there were: a core counts them when they are durable, and writes what it has counted as a part of the day's
//! counts now and then. A crash loses what was counted since.

use tern_storage::records::CountsRecord;
use tern_storage::{LogId, SLOTS, Slot, keys};
use tern_wire::ids::Seq;
use tern_wire::message::is_message;

use super::{Cx, Logs};
use crate::days::day_of;
use crate::entry::Entry;

/// What is counted and not written, of one day.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Of this day.
    day: u32,
    counts: CountsRecord,
    /// When it was written last; 0: never.
    written_ms: u64,
    /// A slot of this core's that had something to count: by it what is counted is written.
    by: Option<Slot>,
    /// The process ends: nothing is put off.
    ends: bool,
}

impl Logs {
    /// An entry is durable.
    pub(super) fn count_entry(&mut self, cx: &mut Cx, entry: &Entry) {
        let is_group = match entry.log {
            LogId::Direct(..) => false,
            LogId::Group(_) => true,
            LogId::Private(_) => return,
        };
        let today = day_of(cx.now_ms);
        if self.counted.day != today {
            self.write_counted(cx);
            self.counted.day = today;
        }
        let counted = &mut self.counted;
        counted.by = Some(Slot::of_log(entry.log));
        let message = u64::from(is_message(entry.kind));
        *(if is_group { &mut counted.counts.group } else { &mut counted.counts.direct }) += message;
        counted.counts.groups += u64::from(is_group && entry.seq == Seq(1));
        if counted.ends {
            self.write_counted(cx);
        }
    }

    /// Time has passed: what is counted is written now and then.
    pub(super) fn write_counted_in_time(&mut self, cx: &mut Cx) {
        let (now_ms, every_ms) = (cx.now_ms, cx.limits().counted_every_ms);
        // The clock may have been set back: what is ahead of it counts as now.
        self.counted.written_ms = self.counted.written_ms.min(now_ms);
        if now_ms - self.counted.written_ms >= every_ms {
            self.counted.written_ms = now_ms;
            self.write_counted(cx);
        }
    }

    /// The process ends when nothing waits for the store any more.
    pub(crate) fn ends(&mut self, cx: &mut Cx) {
        self.counted.ends = true;
        self.write_counted(cx);
    }

    /// Writes what is counted, by a slot of this core's. One that has none keeps it until it has.
    fn write_counted(&mut self, cx: &mut Cx) {
        if self.counted.counts == CountsRecord::default() {
            return;
        }
        let all = (0..SLOTS).filter_map(Slot::new);
        let Some(by) = self.counted.by.into_iter().chain(all).find(|slot| cx.is_here(*slot)) else { return };
        let counts = std::mem::take(&mut self.counted.counts);
        let key = keys::counts(self.counted.day, cx.part_of_counts());
        if self.counted.ends {
            cx.put(by, key, &counts);
        } else {
            cx.put_lazily(by, key, &counts);
        }
    }
}
