//! What is written and cut off: nothing goes before its time, or before all have it.

use tern_client::machine::Tables as _;
use tern_storage::LogId;

use super::World;
use crate::device::Device;
use crate::kept::Wrote;
use crate::record::chat_in;

impl World {
    /// A core writes entries, or cuts them off.
    pub(super) fn wrote(&mut self, wrote: Vec<Wrote>) -> Result<(), String> {
        let mut cut = Vec::new();
        for wrote in wrote {
            match wrote {
                Wrote::Put(log, entry) => self.kept.put(log, *entry),
                Wrote::Cut(log, seq) => cut.push((log, seq)),
            }
        }
        for cut in cut.chunk_by(|one, other| one.0 == other.0) {
            let (log, seqs) = (cut[0].0, cut.iter().map(|(_, seq)| *seq));
            self.is_cut(log, seqs).map_err(|what| format!("{log:?}: {what}"))?;
        }
        Ok(())
    }

    fn is_cut(&mut self, log: LogId, seqs: impl Iterator<Item = u64>) -> Result<(), String> {
        let have = self.members_have(log)?;
        for seq in seqs {
            let entry =
                self.kept.entry(log, seq).ok_or_else(|| format!("{seq} is cut off, and was not there"))?;
            if !self.kept.is_old(entry.time_ms, self.latest_ms) {
                return Err(format!("{seq} of {} is cut off by {}", entry.time_ms, self.latest_ms));
            }
            // From whom it is withheld never gets it.
            let lacks = |(user, upto): &&(u64, u64)| *user != entry.sender && *upto < seq && !entry.withheld;
            if let Some((user, upto)) = have.iter().find(lacks) {
                return Err(format!("{seq} is cut off, and {user} is at {upto}"));
            }
            self.record.is_cut(log, entry);
        }
        Ok(())
    }

    /// Up to where each member of a log has it, on any device.
    fn members_have(&self, log: LogId) -> Result<Vec<(u64, u64)>, String> {
        Ok(match log {
            LogId::Private(_) => return Err("a private log is cut".to_owned()),
            LogId::Direct(lower, higher) => {
                vec![(lower, self.has_upto(log, lower)), (higher, self.has_upto(log, higher))]
            }
            LogId::Group(_) => {
                let people = self.kept.group(log)?.people;
                let members = people.into_iter().filter(|(_, person)| person.is_member());
                members
                    .map(|(user, person)| (user, self.has_upto(log, user).max(person.last().joined - 1)))
                    .collect()
            }
        })
    }

    fn has_upto(&self, log: LogId, user: u64) -> u64 {
        let devices = self.devices.iter().filter(|device| device.user == user);
        let positions = devices.filter_map(|device| position(device, log));
        positions.max().unwrap_or(0).max(self.record.had_upto(log, user))
    }
}

/// Up to where a device has a log.
fn position(device: &Device, log: LogId) -> Option<u64> {
    let chat = chat_in(device.user, log)?;
    Some(device.machine()?.tables().log(chat).ok()??.position)
}
