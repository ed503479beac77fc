//! The desk: takes pushes of the cores to their lanes, and what has become of them back to the core that has asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tern_push::{NotTaken, NoticeId, Outcome, Outcomes, Report, Sender};
use tern_shard::effects::{Push, PushFate};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Shared;
use super::badges::Badges;
use super::notices::order_of;
use super::told::name_of;
use crate::core::PushedTo;

/// How often it is said in the log what services have refused.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Reasons of refusals that the log says at once. Beyond, they are counted together.
const UNSAID_MAX: usize = 64;

/// A push, and who wants to know what has become of it.
pub(super) struct Asked {
    pub push: Push,
    pub to: PushedTo,
}

/// See the module.
pub(super) struct Desk {
    sender: Sender,
    badges: Badges,
    shared: Arc<Shared>,
    /// Which run of the process this is.
    run: u64,
    /// Who asked for what the lanes hold.
    asking: HashMap<NoticeId, PushedTo>,
    /// What has not been said in the log: notices by service and reason.
    unsaid: BTreeMap<(&'static str, String), u64>,
}

impl Desk {
    pub fn new(sender: Sender, badges: Badges, shared: Arc<Shared>, run: u64) -> Self {
        Self { sender, badges, shared, run, asking: HashMap::new(), unsaid: BTreeMap::new() }
    }

    /// Until the sender has stopped.
    pub async fn run(mut self, mut asked: Receiver<Asked>, mut outcomes: Outcomes) {
        let mut said = interval_at(Instant::now() + SAID_EVERY, SAID_EVERY);
        said.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                report = outcomes.next() => match report {
                    Some(report) => self.ended(report),
                    None => break,
                },
                Some(Asked { push, to }) = asked.recv() => self.take(push, to),
                _ = said.tick() => self.say(),
            }
        }
        self.say();
        // What came meanwhile is the next start's.
        asked.close();
        while let Some(Asked { to, .. }) = asked.recv().await {
            self.answer(to, PushFate::Unsent);
        }
    }

    fn take(&mut self, push: Push, to: PushedTo) {
        let service = push.to.service;
        let Ok(order) = order_of(self.run, push) else {
            // No service could ever tell it anything.
            return self.answer(to, PushFate::Dead);
        };
        let (device, id, badge) = (order.device, order.notice.id, order.notice.badge);
        self.badges.enter(device, id, badge.unwrap_or_default());
        match self.sender.offer(order) {
            Ok(()) => drop(self.asking.insert(id, to)),
            Err(why) => {
                self.badges.leave(device, id);
                if why == NotTaken::Full {
                    self.shared.told.no_room(service);
                }
                self.not_taken(to, why);
            }
        }
    }

    fn not_taken(&self, to: PushedTo, why: NotTaken) {
        self.answer(
            to,
            match why {
                NotTaken::Full | NotTaken::Stopped => PushFate::Unsent,
                // The operator has taken the service away. Where the device is told stays, for when it is back.
                NotTaken::NoService(_) => PushFate::Over,
            },
        );
    }

    fn ended(&mut self, report: Report) {
        let Report { id, device, service, outcome } = report;
        self.badges.leave(device, id);
        let fate = match &outcome {
            Outcome::Delivered | Outcome::Replaced | Outcome::Expired | Outcome::GaveUp => PushFate::Over,
            Outcome::Refused(reason) => {
                self.shared.told.refused(service, reason.as_str());
                let has_room = self.unsaid.len() < UNSAID_MAX;
                let reason = if has_room { reason.as_str() } else { "others" };
                *self.unsaid.entry((name_of(service), reason.to_owned())).or_default() += 1;
                PushFate::Over
            }
            Outcome::Dead(_) => PushFate::Dead,
            Outcome::Stopped => PushFate::Unsent,
        };
        if let Some(to) = self.asking.remove(&id) {
            self.answer(to, fate);
        }
    }

    fn answer(&self, to: PushedTo, fate: PushFate) {
        to.is(fate);
        // Behind it, so that whoever sees that nothing is open sees what has become of it.
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
    }

    fn say(&mut self) {
        for ((service, reason), notices) in std::mem::take(&mut self.unsaid) {
            tracing::warn!(
                service,
                reason,
                notices,
                "a push service has refused notices: it will never take them"
            );
        }
    }
}
