//! The push services of a world, as far as there are any: where devices have said that they are told, and what becomes of what they are to
//! be told. Nobody is told who has not said so, and nobody sees words who has not asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tern_proto::v1::{self, set_push::Address};
use tern_shard::effects::{Push, PushFate, Pushed, Pushing};
use tern_storage::medium::stream::Stream;
use tern_wire::push::PushService;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pushes {
    stream: Stream,
    /// There are push services in this world.
    pub(crate) are: bool,
    /// What devices have said: addresses, and those with which words are shown. By users and devices.
    said: BTreeMap<(u64, u32), BTreeSet<String>>,
    with_words: BTreeSet<String>,
}

impl Pushes {
    /// In one of three worlds there are some.
    pub(crate) fn new(seed: u64) -> Self {
        let mut stream = Stream::named(seed, "pushes");
        let are = stream.below(3) == 0;
        let (said, with_words) = Default::default();
        Self { stream, are, said, with_words }
    }

    /// What a node is to know of them.
    pub(crate) fn pushing() -> Pushing {
        Pushing { services: vec![PushService::Webhook], ..Pushing::default() }
    }

    /// What a device says now, if anything: where it is told from now on, or that it is told nowhere.
    pub(crate) fn wish(&mut self, user: u64, device: u32) -> Option<v1::SetPush> {
        if !self.are || self.stream.below(12) > 0 {
            return None;
        }
        if self.stream.below(6) == 0 {
            return Some(v1::SetPush::default());
        }
        let said = self.said.entry((user, device)).or_default();
        let address = format!("{user}-{device}-{}", said.len());
        said.insert(address.clone());
        let previews = self.stream.below(2) == 0;
        if previews {
            self.with_words.insert(address.clone());
        }
        let settings = Some(v1::PushSettings { previews, quiet: None });
        Some(v1::SetPush { address: Some(Address::Webhook(v1::WebhookAddress { address })), settings })
    }

    /// A device is to be told something. Gives how long that takes, and what becomes of it. `Err`: it must not be told.
    pub(crate) fn told(&mut self, push: &Push, is_calm: bool) -> Result<(Duration, Pushed), String> {
        let Push { device, log, number, to, preview, .. } = push;
        let said = self.said.get(&(device.user.get(), device.device.get()));
        if !said.is_some_and(|said| said.contains(&to.token)) {
            return Err(format!("{push:?}: it has not said that it is told there"));
        }
        if preview.is_some() && !self.with_words.contains(&to.token) {
            return Err(format!("{push:?}: it has not asked for words"));
        }
        let fate = match self.stream.below(20) {
            0 | 1 if !is_calm => PushFate::Unsent,
            2 if !is_calm => PushFate::Dead,
            _ => PushFate::Over,
        };
        let pushed = Pushed { device: *device, log: *log, number: *number, since_ms: to.since_ms, fate };
        Ok((Duration::from_millis(1 + self.stream.below(2_000)), pushed))
    }
}
