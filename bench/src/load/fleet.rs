//! Devices by number, on as many rings of one thread as their connections need.

use std::ops::Range;
use std::time::{Duration, Instant};

use tern_proto::v1::client_frame::Request;
use tern_testkit::TestUser;
use tern_wire::tls::TlsClient;

use super::{Addresses, Happened, LinkId, Pool, PoolOptions};
use crate::stop;
use crate::target::Target;

/// Connections of one ring: the limit of open files bounds it, usually to 20,000.
const POOL_LINKS: u32 = 16_000;

/// Handshakes under way at once, where not all are to come at once.
const HANDSHAKES: usize = 128;

/// How long nothing may happen while something is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long one ring is waited for at most, while there are others.
const SHARED_WAIT: Duration = Duration::from_millis(1);

/// How long a look at what has happened waits for it, where nothing else is to be done.
pub const WAIT: Duration = Duration::from_millis(10);

/// Nobody's connection.
const NOBODY: u32 = u32::MAX;

/// See the module.
pub struct Fleet<'a> {
    users: &'a [TestUser],
    tls: TlsClient,
    /// Each device's own, which keeps its ticket, if devices come back with one.
    tls_of: Vec<TlsClient>,
    addresses: Addresses,
    pools: Vec<Pool>,
    /// The device of each pool's links.
    device_of: Vec<Vec<u32>>,
    /// The link of each device.
    link_of: Vec<Option<LinkId>>,
    resumes: bool,
}

/// What has become of what was begun.
#[derive(Debug, Default)]
pub struct Settled {
    pub ready: u64,
    pub lost: u64,
    pub first_error: Option<String>,
}

impl<'a> Fleet<'a> {
    /// A device for each user, none connected. `block` keeps its source addresses apart from those of other threads.
    pub fn new(target: &Target, users: &'a [TestUser], block: u32, resumes: bool) -> Result<Self, String> {
        Self::on_pools(target, users, (block, resumes), false)
    }

    /// Devices that are silent once they are logged in.
    pub fn silent(target: &Target, users: &'a [TestUser], block: u32) -> Result<Self, String> {
        Self::on_pools(target, users, (block, false), true)
    }

    fn on_pools(
        target: &Target,
        users: &'a [TestUser],
        (block, resumes): (u32, bool),
        silent: bool,
    ) -> Result<Self, String> {
        let count = users.len() as u32;
        let (mut pools, mut device_of) = (Vec::new(), Vec::new());
        for from in (0..count).step_by(POOL_LINKS as usize) {
            // Links that end and begin anew overlap for a moment.
            let links = POOL_LINKS.min(count - from) + 64;
            let options = PoolOptions { links, ring_entries: 1024, silent };
            pools.push(Pool::new(&options).map_err(|missing| missing.to_string())?);
            device_of.push(vec![NOBODY; links as usize]);
        }
        let addresses = Addresses::new(target.address, block);
        let returning = if target.returns && !silent { users } else { &[] };
        Ok(Self {
            users,
            tls: target.tls.clone(),
            tls_of: returning.iter().map(|_| target.tls.returning()).collect(),
            addresses,
            pools,
            device_of,
            link_of: vec![None; users.len()],
            resumes,
        })
    }

    /// How many TLS handshakes resumed the session of an earlier connection.
    pub fn resumed(&self) -> u64 {
        self.pools.iter().map(Pool::resumed).sum()
    }

    /// How many devices there are.
    pub fn len(&self) -> u32 {
        self.users.len() as u32
    }

    fn pool_of(device: u32) -> usize {
        (device / POOL_LINKS) as usize
    }

    /// Connects a device, and logs it in.
    pub fn dial(&mut self, device: u32) -> Result<(), String> {
        let pool = Self::pool_of(device);
        let token = &self.users[device as usize].token;
        let tls = self.tls_of.get(device as usize).unwrap_or(&self.tls);
        let dialled = self.pools[pool].dial(self.addresses.next(), tls, token, self.resumes);
        let link = dialled.map_err(|error| format!("device {device}: {error}"))?;
        self.device_of[pool][link as usize] = device;
        self.link_of[device as usize] = Some(link);
        Ok(())
    }

    /// Ends a device's connection, abruptly.
    pub fn hang_up(&mut self, device: u32) {
        if let Some(link) = self.link_of[device as usize].take() {
            let pool = Self::pool_of(device);
            self.device_of[pool][link as usize] = NOBODY;
            self.pools[pool].hang_up(link);
        }
    }

    /// Queues a request; `false` if the device is not connected.
    pub fn request(&mut self, device: u32, request: Request) -> bool {
        self.ask(device, request).is_some()
    }

    /// Queues a request, and gives its id; `None` if the device is not connected.
    pub fn ask(&mut self, device: u32, request: Request) -> Option<u64> {
        let link = self.link_of[device as usize]?;
        let id = self.pools[Self::pool_of(device)].request(link, request);
        (id > 0).then_some(id)
    }

    /// Has what is queued sent, and says what has happened: a device that is lost has been hung up.
    /// Waits no longer than `wait` for something to happen.
    pub fn turn(&mut self, wait: Duration, happen: &mut dyn FnMut(u32, Happened)) -> Result<(), String> {
        let wait = if self.pools.len() == 1 { wait } else { wait.min(SHARED_WAIT) };
        let mut something = false;
        for pool in 0..self.pools.len() {
            // Whoever is turned last is waited for, if nothing has happened before.
            let last = pool + 1 == self.pools.len();
            let wait = if last && !something { wait } else { Duration::ZERO };
            let Self { pools, device_of, link_of, .. } = self;
            let mut told = |link: LinkId, happened: Happened| {
                something = true;
                let device = device_of[pool][link as usize];
                if matches!(happened, Happened::Lost(_)) && device != NOBODY {
                    device_of[pool][link as usize] = NOBODY;
                    link_of[device as usize] = None;
                }
                if device != NOBODY {
                    happen(device, happened);
                }
            };
            pools[pool].turn(wait, &mut told).map_err(|error| format!("the ring has failed: {error}"))?;
        }
        Ok(())
    }

    /// Lets time pass in which nothing is asked: devices become silent. Gives why one was lost, if any was.
    pub fn be_silent(&mut self, time: Duration) -> Result<(), String> {
        let (begin, mut lost) = (Instant::now(), None);
        while begin.elapsed() < time && !stop::asked() {
            self.turn(WAIT, &mut |_, happened| {
                if let Happened::Lost(why) = happened {
                    lost.get_or_insert(why);
                }
            })?;
        }
        lost.map_or(Ok(()), |why| Err(format!("a silent connection was lost: {why}")))
    }

    /// Connects a range of devices, a number of them at once. Stops early if the user wants it.
    pub fn connect(&mut self, devices: Range<u32>) -> Result<Settled, String> {
        let mut settled = Settled::default();
        let (mut dialled, mut told, mut heard) = (0, Instant::now(), Instant::now());
        let all = u64::from(devices.end - devices.start);
        let mut next = devices.clone();
        while settled.ready + settled.lost < all && !stop::asked() {
            while dialled - (settled.ready + settled.lost) < HANDSHAKES as u64
                && let Some(device) = next.next()
            {
                self.dial(device)?;
                dialled += 1;
            }
            let before = settled.ready + settled.lost;
            self.turn(WAIT, &mut |_, happened| match happened {
                Happened::Ready => settled.ready += 1,
                Happened::Frame(_) => {}
                Happened::Lost(why) => {
                    settled.lost += 1;
                    settled.first_error.get_or_insert(why);
                }
            })?;
            if settled.ready + settled.lost > before {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                return Err(format!("{} connections are not ready", dialled - before));
            }
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                crate::progress(&format!("{} of {} connected", devices.start + dialled as u32, devices.end));
            }
        }
        Ok(settled)
    }
}
