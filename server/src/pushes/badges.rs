//! The numbers on apps: whatever is sent to a device says the newest number that is known, though it may have waited behind something that
//! came later. Else a notice that is tried again would put back the number of before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tern_push::{Answer, DeviceId, Doing, Notice, NoticeId, Service, Token, TokenKind};

/// The numbers of devices that something is held for. No more than are held.
#[derive(Clone, Default)]
pub(super) struct Badges(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    devices: HashMap<DeviceId, Held>,
    /// The number of the device that a notice is for.
    notices: HashMap<NoticeId, Arc<AtomicU32>>,
}

struct Held {
    notices: usize,
    number: Arc<AtomicU32>,
}

impl Badges {
    /// A notice is held, and says the newest number.
    pub fn enter(&self, device: DeviceId, notice: NoticeId, number: u32) {
        let mut table = self.lock();
        let held = table.devices.entry(device).or_insert_with(|| Held { notices: 0, number: Arc::default() });
        held.notices += 1;
        held.number.store(number, Ordering::Release);
        let number = held.number.clone();
        table.notices.insert(notice, number);
    }

    /// It is held no more.
    pub fn leave(&self, device: DeviceId, notice: NoticeId) {
        let mut table = self.lock();
        if table.notices.remove(&notice).is_none() {
            return;
        }
        if let Some(held) = table.devices.get_mut(&device) {
            held.notices -= 1;
            if held.notices == 0 {
                table.devices.remove(&device);
            }
        }
    }

    fn newest(&self, notice: &Notice) -> Option<u32> {
        let number = self.lock().notices.get(&notice.id)?.load(Ordering::Acquire);
        (notice.badge != Some(number)).then_some(number)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service that is given the newest numbers.
pub(super) struct Numbered<S> {
    pub service: S,
    pub badges: Badges,
}

impl<S: Service> Service for Numbered<S> {
    fn name(&self) -> &'static str {
        self.service.name()
    }

    fn kind(&self) -> TokenKind {
        self.service.kind()
    }

    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        let Some(number) = self.badges.newest(notice) else { return self.service.send(token, notice) };
        let notice = Notice { badge: Some(number), ..notice.clone() };
        Box::pin(async move { self.service.send(token, &notice).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tern_push::{Kind, Priority};

    fn notice(id: u128, badge: u32) -> Notice {
        Notice {
            id: NoticeId(id),
            kind: Kind::Message,
            badge: Some(badge),
            collapse: None,
            priority: Priority::High,
            expires_s: 0,
            preview: None,
            chat: None,
        }
    }

    #[test]
    fn what_is_sent_late_says_the_number_of_now_and_nothing_stays_of_what_is_over() {
        let badges = Badges::default();
        let (one, other) = (DeviceId(1), DeviceId(2));
        badges.enter(one, NoticeId(1), 3);
        assert_eq!(badges.newest(&notice(1, 3)), None, "it says it already");
        badges.enter(one, NoticeId(2), 2);
        badges.enter(other, NoticeId(3), 9);
        assert_eq!(badges.newest(&notice(1, 3)), Some(2));
        badges.leave(one, NoticeId(2));
        badges.leave(one, NoticeId(2));
        assert_eq!(badges.newest(&notice(1, 3)), Some(2));
        badges.leave(one, NoticeId(1));
        badges.leave(other, NoticeId(3));
        let table = badges.lock();
        assert!(table.devices.is_empty() && table.notices.is_empty());
    }
}
