//! Devices to which nothing is sent for a while, because their service asks for it.

use std::collections::HashMap;

use crate::notice::DeviceId;

/// Pauses at which those that are over are first looked for.
const LOOKED_AT_MIN: usize = 1024;

/// See the module.
pub(super) struct DevicePauses {
    until_ms: HashMap<DeviceId, u64>,
    /// When there are so many, those that are over go. So looking costs no more than pausing did.
    looked_at: usize,
}

impl Default for DevicePauses {
    fn default() -> Self {
        Self { until_ms: HashMap::new(), looked_at: LOOKED_AT_MIN }
    }
}

impl DevicePauses {
    pub fn pause(&mut self, device: DeviceId, until_ms: u64, now_ms: u64) {
        let until = self.until_ms.entry(device).or_default();
        *until = until_ms.max(*until);
        if self.until_ms.len() >= self.looked_at {
            self.until_ms.retain(|_, until_ms| *until_ms > now_ms);
            self.looked_at = (self.until_ms.len() * 2).max(LOOKED_AT_MIN);
        }
    }

    /// Until when a device is paused, if it is.
    pub fn until_ms(&self, device: DeviceId, now_ms: u64) -> Option<u64> {
        self.until_ms.get(&device).copied().filter(|until_ms| *until_ms > now_ms)
    }
}
