//! The node's process: it starts, has turns, makes steps of its store, and ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tern_shard::admin::{AdminRequest, AdminResponse, Provisioned};
use tern_shard::effects::Pushed;
use tern_shard::slots::CoreId;
use tern_storage::Slot;
use tern_storage::embedded::{Step, Stepped};
use tern_wire::ids::{MediaId, Name, Phone, UserId};

use super::{Event, World};
use crate::media::{NUMBERS_FROM, Question};
use crate::node::{Comes, Does, Node};
use crate::trouble::Trouble;
use crate::work::Work;

/// For so long an account is suspended at the most: it comes back before the world ends.
const SUSPENDED_MS_MAX: u64 = 5_000;

impl World {
    pub(super) fn start_process(&mut self) -> Result<(), String> {
        self.process += 1;
        (self.turns, self.steps) = (BTreeMap::new(), BTreeMap::new());
        self.questions = 0;
        let cores = 1 + self.chance.below(3) as u16;
        self.note(|| format!("a process of {cores} cores starts"));
        self.clock = crate::clocks::NodeClock::start(self.now, self.wall);
        self.node = self.open(cores)?;
        self.note_disk();
        if self.node.is_none() {
            if self.is_over && !self.ground.is_cut() {
                return Err("the node does not start though nothing is wrong".to_owned());
            }
            self.die(self.ground.is_cut());
            return Ok(());
        }
        self.store(&Step::ALL);
        self.at(self.now + Node::TICK, Event::Tick(self.process));
        Ok(())
    }

    /// A node on what the medium holds, if it can be opened. What the store holds is looked at before anything changes it.
    fn open(&mut self, cores: u16) -> Result<Option<Node>, String> {
        let number = self.chance.number();
        let Some(engine) = self.ground.open(&self.shape, number, self.now) else { return Ok(None) };
        let is_known = self.audit(&engine)?;
        let books = self.books.as_ref().filter(|_| is_known);
        Ok(Node::start(engine, books, cores, &self.shape, &mut self.chance))
    }

    /// The process is gone, and its connections with it.
    pub(super) fn die(&mut self, power: bool) {
        self.note(|| format!("the process ends, power: {power}"));
        self.node = None;
        self.suspensions.process_dies();
        self.media.process_dies();
        self.process += 1;
        self.ground.die(power);
        self.note_disk();
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            // A machine that is off tells nobody.
            let tells = !power || self.chance.below(2) == 0;
            if tells {
                self.soon(20_000, Event::Broken(id));
            } else if let Some(link) = self.links.get_mut(&id) {
                link.is_dead = true;
            }
        }
        let wait = Duration::from_millis(200 + self.chance.below(3000));
        self.at(self.now + wait, Event::Start);
    }

    pub(super) fn wake(&mut self, core: CoreId) {
        let when = self.now + Duration::from_micros(1 + self.chance.below(50));
        let busy_until = self.busy_until.get(&core).copied().unwrap_or_default();
        self.wake_at(core, when.max(busy_until));
    }

    /// A core has much to do: until then it has no other turn.
    pub(super) fn keep_busy(&mut self, core: CoreId, until: Duration) {
        self.busy_until.insert(core, until);
        if self.turns.remove(&core).is_some() {
            let process = self.process;
            self.queue
                .retain(|_, event| !matches!(event, Event::Turn(of, at) if (*of, *at) == (process, core)));
            self.wake_at(core, until);
        }
    }

    pub(super) fn wake_at(&mut self, core: CoreId, when: Duration) {
        if self.turns.get(&core).is_none_or(|planned| *planned > when) {
            self.turns.insert(core, when);
            self.at(when, Event::Turn(self.process, core));
        }
    }

    pub(super) fn turn(&mut self, process: u64, core: CoreId) {
        if process != self.process {
            return;
        }
        if self.turns.get(&core).is_some_and(|planned| *planned <= self.now) {
            self.turns.remove(&core);
        }
        let now_ms = self.clock.now_ms(self.now);
        self.latest_ms = now_ms.max(self.latest_ms);
        self.suspensions.passes(now_ms);
        let Some(node) = &mut self.node else { return };
        for does in node.turn(core, self.now, now_ms, &mut self.chance) {
            match does {
                Does::Send(link, bytes) => self.sends_down(link, bytes),
                Does::Close(link) => {
                    if let Some(arrival) = self.arrival(link, false) {
                        self.at(arrival, Event::Broken(link));
                    }
                }
                Does::Wake(core) => self.wake(core),
                Does::Answer(number, answer) if number >= NUMBERS_FROM => {
                    if let Err(what) = self.media.answered(number, &answer) {
                        self.wrong = Some(what);
                    }
                }
                Does::Remove(medium) => {
                    // A store of media may take its time.
                    let wait = Duration::from_millis(1 + self.media.takes_ms());
                    self.at(self.now + wait, Event::Removed(medium));
                }
                Does::Push(push) => match self.pushes.told(&push, self.is_over) {
                    Ok((wait, pushed)) => self.at(self.now + wait, Event::Pushed(process, core, pushed)),
                    Err(what) => self.wrong = Some(what),
                },
                Does::Answer(_, answer) => {
                    self.questions = self.questions.saturating_sub(1);
                    self.tally.done(Work::Operator);
                    match answer {
                        AdminResponse::Provisioned(made) => self.provisioned = Some(made),
                        AdminResponse::Suspended { user, until_ms } => {
                            self.suspensions.holds(user.get(), until_ms, self.links_made);
                        }
                        _ => {}
                    }
                }
                Does::LoggedIn(link, user) => {
                    if let Err(what) = self.suspensions.let_in(link, user) {
                        self.wrong = Some(what);
                    }
                }
                Does::Code(phone, code) => self.code_is_sent(phone, code),
                Does::Store(step) => self.store(&[step]),
                Does::Token(token) => self.record.token(token),
                Does::Wrote(wrote) => {
                    if let Err(what) = self.wrote(wrote) {
                        self.wrong = Some(what);
                    }
                }
                Does::Wrong(what) => self.wrong = Some(what),
                Does::Broken => return self.die(false),
            }
        }
    }

    /// A code is on its way to a phone, and may be lost on it.
    fn code_is_sent(&mut self, phone: String, code: String) {
        if self.troubles.hits(Trouble::CodeLost) {
            self.tally.fell(Trouble::CodeLost.name(), 1, &[Work::Register]);
            return;
        }
        let wait = Duration::from_millis(100 + self.network.below(5000));
        self.at(self.now + wait, Event::Code(phone, code));
    }

    /// These parts of the store have something to do, perhaps.
    pub(super) fn store(&mut self, steps: &[Step]) {
        for step in self.ground.steps(steps) {
            let wait = Duration::from_micros(1 + self.chance.below(200));
            self.step_at(self.now + wait, *step);
        }
    }

    pub(super) fn step_at(&mut self, when: Duration, step: Step) {
        if self.steps.get(&step).is_none_or(|planned| *planned > when) {
            self.steps.insert(step, when);
            self.at(when, Event::Store(self.process, step));
        }
    }

    pub(super) fn step(&mut self, process: u64, step: Step) {
        if process != self.process {
            return;
        }
        if self.steps.get(&step).is_some_and(|planned| *planned <= self.now) {
            self.steps.remove(&step);
        }
        let Some(node) = &mut self.node else { return };
        let stepped = node.engine.step(step, self.now);
        if self.ground.is_cut() {
            return self.die(true);
        }
        let took = self.ground.take_time() + Duration::from_micros(20 + self.chance.below(300));
        let node = self.node.as_ref().expect("it has just made a step");
        let ready: Vec<_> =
            (0..node.cores()).map(CoreId).filter(|core| node.has_completions(*core)).collect();
        ready.into_iter().for_each(|core| self.wake(core));
        if stepped != Stepped::Nothing {
            self.note_disk();
        }
        match stepped {
            Stepped::Did => {
                for next in after(step) {
                    self.step_at(self.now + took, *next);
                }
            }
            Stepped::Later(when) => self.step_at(when.max(self.now + Duration::from_micros(50)), step),
            Stepped::Waits => self.step_at(self.now + Duration::from_millis(1), step),
            Stepped::Nothing | Stepped::Failed => {}
        }
    }

    /// Counts what has gone wrong on the medium since the last look.
    fn note_disk(&mut self) {
        for (name, count) in self.ground.counts() {
            let told = self.ground_told.insert(name, count).unwrap_or(0);
            if count > told {
                let under_way = self.under_way();
                self.tally.fell(name, count - told, &under_way);
            }
        }
    }

    pub(super) fn tick(&mut self, process: u64) {
        if process != self.process {
            return;
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(10) {
            self.clock.follow(self.now, self.wall);
            self.store(&Step::ALL);
        }
        let Some(node) = &mut self.node else { return };
        let cores = node.cores();
        for core in (0..cores).map(CoreId) {
            node.comes(core, Comes::Tick);
        }
        (0..cores).map(CoreId).for_each(|core| self.wake(core));
        self.at(self.now + Node::TICK, Event::Tick(process));
    }

    /// An operator suspends an account for a moment, or frees it.
    pub(super) fn suspend_or_free(&mut self, phone: &Phone, user: u64) {
        let Some(id) = UserId::new(user) else { return };
        if self.suspensions.frees(user) {
            return self.question(phone, AdminRequest::Free(id));
        }
        if self.node.is_some() && self.suspensions.begins(user) {
            let for_ms = 1 + self.life.below(SUSPENDED_MS_MAX);
            self.question(phone, AdminRequest::Suspend(id, "a test".to_owned(), for_ms));
        }
    }

    /// An operator frees whoever is suspended, and keeps whose account is about to end.
    pub(super) fn free_all(&mut self) {
        let all: BTreeMap<u64, String> =
            self.devices.iter().map(|device| (device.user, device.phone.clone())).collect();
        for (user, phone) in all {
            if let (Some(id), Some(phone)) = (UserId::new(user), Phone::parse(&phone)) {
                self.suspensions.frees_anyhow(user);
                self.question(&phone, AdminRequest::Free(id));
                self.question(&phone, AdminRequest::Keep(id));
            }
        }
    }

    /// An operator asks the owner of a phone.
    pub(super) fn question(&mut self, phone: &Phone, request: AdminRequest) {
        let Some(node) = &mut self.node else { return };
        let owner = node.table().owner(Slot::of_phone(phone.digits()));
        self.tally.begun(Work::Operator);
        self.questions += 1;
        node.comes(owner, Comes::Asked(self.questions, request));
        self.wake(owner);
    }

    /// Uploads go on, of which the listener for media asks the cores.
    pub(super) fn uploads_go_on(&mut self) {
        if !self.is_over {
            self.at(self.now + super::UPLOADS_EVERY, Event::Uploads);
        }
        if self.node.is_none() {
            return;
        }
        let users: Vec<_> = self.devices.iter().map(|device| device.user).filter(|user| *user != 0).collect();
        for question in self.media.goes_on(&users) {
            self.ask_of_media(question);
        }
    }

    pub(super) fn push_has_ended(&mut self, process: u64, core: CoreId, pushed: Pushed) {
        // Another one knows nothing of it.
        let Some(node) = self.node.as_mut().filter(|_| process == self.process) else { return };
        node.comes(core, Comes::Pushed(pushed));
        self.wake(core);
    }

    pub(super) fn medium_is_removed(&mut self, medium: MediaId) {
        let question = self.media.removed(medium);
        self.ask_of_media(question);
    }

    fn ask_of_media(&mut self, Question { number, slot, request }: Question) {
        let Some(node) = &mut self.node else { return };
        let owner = node.table().owner(slot);
        node.comes(owner, Comes::Asked(number, request));
        self.wake(owner);
    }

    pub(super) fn provision(&mut self, phone: &str) -> Result<Provisioned, String> {
        let phone = Phone::parse(phone).expect("a phone");
        let name = Name::parse("somebody").expect("a name");
        self.question(&phone.clone(), AdminRequest::Provision { phone, name });
        for _ in 0..1000 {
            self.run_until(self.now + Duration::from_millis(10))?;
            if let Some(made) = self.provisioned.take() {
                return Ok(made);
            }
        }
        Err("nobody is provisioned".to_owned())
    }
}

/// Which parts of the store may have something to do after a step of one.
fn after(step: Step) -> &'static [Step] {
    match step {
        Step::Commit => &[Step::Commit, Step::Apply],
        Step::Apply => &[Step::Apply, Step::Flush, Step::Read, Step::Commit],
        Step::Flush => &[Step::Flush, Step::Merge, Step::Apply, Step::Commit],
        Step::Merge => &[Step::Merge, Step::Apply, Step::Flush],
        Step::Read => &[Step::Read],
    }
}
