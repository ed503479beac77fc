//! Which core has which slot while the node runs: what each costs is looked at each second, what is to move is planned when an operator
//! asks, and moved at a rate, one slot at a time. All of it is the node's: an operator's terminal may close.

mod automatic;
mod brake;
mod loads;
mod run;
mod shown;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tern_cluster::plan::{Aim, Placed, Plan, plan};
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::{SLOTS, Slot};

use self::automatic::Automatic;
use self::brake::{Brake, Times};
use self::loads::Loads;
use self::run::{Ended, Run};
use crate::audit::Audit;
use crate::control::{Control, CoreLoad, MoveError};
use crate::threads;

/// How often the cores are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a slot that has moved rests.
const REST: Duration = Duration::from_secs(600);

/// How long a plan may be carried out, unless a slot has moved since.
const PLAN_VALID: Duration = Duration::from_secs(600);

/// Moves a second, unless an operator says otherwise; and at most.
const RATE: f64 = 10.0;
const RATE_MAX: f64 = 1_000.0;

/// See the module.
pub struct Balance {
    control: Arc<dyn Control>,
    audit: Arc<Audit>,
    state: Mutex<State>,
    /// There is something to move, or not any more.
    news: Condvar,
}

struct State {
    loads: Loads,
    brake: Brake,
    automatic: Automatic,
    drained: Vec<u16>,
    /// When each slot has moved last, how long it did not answer, and from where.
    moved: Vec<Option<Moved>>,
    plans_made: u64,
    offered: Option<Offered>,
    run: Option<Run>,
}

#[derive(Clone, Copy)]
struct Moved {
    at: Instant,
    from: u16,
    pause: Duration,
}

/// A plan that may be carried out.
struct Offered {
    id: String,
    plan: Plan,
    version: u64,
    made: Instant,
}

/// Starts to look, and to move what is to be moved.
///
/// # Errors
/// If there are no threads for that.
pub fn start(control: Arc<dyn Control>, audit: Arc<Audit>, automatic: bool) -> std::io::Result<Arc<Balance>> {
    let cores = control.cores();
    let state = State {
        loads: Loads::new(cores),
        brake: Brake::default(),
        automatic: Automatic::new(automatic),
        drained: Vec::new(),
        moved: vec![None; SLOTS.into()],
        plans_made: 0,
        offered: None,
        run: None,
    };
    let balance = Arc::new(Balance { control, audit, state: Mutex::new(state), news: Condvar::new() });
    let (looks, moves) = (balance.clone(), balance.clone());
    threads::spawn("tern-loads", move || {
        loop {
            looks.look();
            thread::sleep(LOOK);
        }
    })?;
    threads::spawn_ending("tern-moves", move || {
        moves.move_all();
        true
    })?;
    Ok(balance)
}

impl Balance {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees what the cores have done. One that does not answer is seen the next time.
    fn look(&self) {
        let cores: Result<Vec<_>, _> =
            (0..self.control.cores()).map(|core| self.control.load(CoreId(core))).collect();
        let Ok(cores) = cores else { return };
        let mut state = self.state();
        let moves = state.run.as_ref().is_some_and(Run::moves);
        let times = [sum(&cores, |core| &core.commits_us), sum(&cores, |core| &core.turns_us)];
        state.brake.look(times.into(), moves);
        let is_held = state.brake.is_held();
        if let Some(run) = state.run.as_mut() {
            run.held = is_held;
        }
        state.loads.take(Instant::now(), cores);
        let balances = state.should_balance(&self.control.slots(), self.control.cores());
        drop(state);
        self.news.notify_all();
        if balances {
            self.balance();
        }
    }

    /// Plans, and carries it out.
    fn balance(&self) {
        let plan = self.plan("ternd");
        let id = plan["plan"].as_str().expect("a plan has a name");
        // If an operator was quicker, the audit says so.
        let _ = self.apply(id, None, "ternd");
    }

    /// Notes an act, with why it was not done, or what it came to.
    fn noted<T>(
        &self,
        operator: &str,
        act: &str,
        what: &Value,
        done: Result<T, String>,
        outcome: &str,
    ) -> Result<T, String> {
        self.audit.note(operator, act, what, done.as_ref().err().map_or(outcome, String::as_str));
        done
    }

    /// Moves a slot now.
    pub fn move_slot(&self, number: u16, to: u16, operator: &str) -> Result<Value, String> {
        let slot = slot_of(number)?;
        let from = self.control.slots().owner(slot).0;
        let moved = self.moves(slot, from, to).map_err(|error| error.to_string());
        let what = json!({ "slot": number, "from": from, "to": to });
        let pause = self.noted(operator, "move", &what, moved, "moved")?;
        let pause_us = pause.as_micros() as u64;
        Ok(json!({ "slot": number, "from": from, "to": to, "pause_us": pause_us }))
    }

    fn moves(&self, slot: Slot, from: u16, to: u16) -> Result<Duration, MoveError> {
        let pause = self.control.move_slot(slot, CoreId(to))?;
        self.state().moved[usize::from(slot.number())] = Some(Moved { at: Instant::now(), from, pause });
        Ok(pause)
    }

    /// Plans what is to move. Nothing moves yet.
    pub fn plan(&self, operator: &str) -> Value {
        let table = self.control.slots();
        let mut state = self.state();
        let found = state.plan(&table, self.control.cores());
        state.plans_made += 1;
        let id = format!("p-{}", state.plans_made);
        let shown = shown::plan(&id, &found);
        let moves = found.moves.len();
        state.offered =
            Some(Offered { id: id.clone(), plan: found, version: table.version(), made: Instant::now() });
        drop(state);
        self.audit.note(operator, "plan", &json!({ "plan": id, "moves": moves }), "planned");
        shown
    }

    /// Begins to carry out a plan.
    pub fn apply(&self, id: &str, rate: Option<f64>, operator: &str) -> Result<Value, String> {
        let what = json!({ "plan": id, "rate": rate });
        self.noted(operator, "apply", &what, self.begin(id, rate), "begun")?;
        self.news.notify_all();
        Ok(self.status())
    }

    fn begin(&self, id: &str, rate: Option<f64>) -> Result<(), String> {
        let rate = checked(rate.unwrap_or(RATE))?;
        let version = self.control.slots().version();
        let mut state = self.state();
        if let Some(run) = state.run.as_ref().filter(|run| run.ended.is_none()) {
            return Err(format!("{} is being carried out: --status shows it, --cancel ends it", run.plan));
        }
        let offered = state.offered.as_ref().filter(|offered| offered.id == id);
        let offered = offered.ok_or("there is no such plan: the newest one alone can be carried out")?;
        if offered.version != version || offered.made.elapsed() > PLAN_VALID {
            return Err(
                "slots have moved since that was planned, or it is older than ten minutes: plan again".into(),
            );
        }
        let offered = state.offered.take().expect("it was just looked at");
        state.run = Some(Run::new(offered.id, offered.plan, rate));
        Ok(())
    }

    /// What is being carried out, or was last.
    pub fn status(&self) -> Value {
        let state = self.state();
        shown::status(state.run.as_ref(), state.brake.us())
    }

    /// Changes what is being carried out: what is done, in a word, and how.
    fn change(
        &self,
        what: &str,
        operator: &str,
        change: impl FnOnce(&mut Run) -> Result<(), String>,
    ) -> Result<Value, String> {
        let mut state = self.state();
        let run = state.run.as_mut().filter(|run| run.ended.is_none());
        let changed = run.ok_or_else(|| "nothing is being carried out".to_owned()).and_then(change);
        drop(state);
        self.noted(operator, what, &Value::Null, changed, "done")?;
        self.news.notify_all();
        Ok(self.status())
    }

    /// Nothing more moves until it is resumed.
    pub fn pause(&self, operator: &str) -> Result<Value, String> {
        self.change("pause", operator, |run| {
            run.paused = true;
            Ok(())
        })
    }

    /// It is gone on with.
    pub fn resume(&self, operator: &str) -> Result<Value, String> {
        self.change("resume", operator, |run| {
            run.paused = false;
            Ok(())
        })
    }

    /// So many moves a second from here on.
    pub fn set_rate(&self, rate: f64, operator: &str) -> Result<Value, String> {
        self.change("rate", operator, |run| {
            run.rate = checked(rate)?;
            Ok(())
        })
    }

    /// What is left of it is not moved.
    pub fn cancel(&self, operator: &str) -> Result<Value, String> {
        self.change("cancel", operator, |run| {
            run.end(Ended::Cancelled);
            Ok(())
        })
    }

    /// A core is to have no slots: what it has moves to others as the next plan is carried out.
    pub fn drain_core(&self, core: u16, operator: &str) -> Result<Value, String> {
        let mut state = self.state();
        let cores = self.control.cores();
        let left = (0..cores).filter(|other| *other != core && !state.drained.contains(other)).count();
        let done = if core >= cores {
            Err("there is no such core".to_owned())
        } else if left == 0 {
            Err("no other core would be left to take slots".to_owned())
        } else {
            if !state.drained.contains(&core) {
                state.drained.push(core);
            }
            Ok(())
        };
        drop(state);
        self.noted(operator, "drain-core", &json!({ "core": core }), done, "draining")?;
        let plan = self.plan(operator);
        let id = plan["plan"].as_str().expect("a plan has a name").to_owned();
        let begun = self.apply(&id, None, operator);
        if begun.is_err() {
            self.state().drained.retain(|drained| *drained != core);
        }
        begun
    }

    /// A core takes slots again.
    pub fn undrain_core(&self, core: u16, operator: &str) -> Result<Value, String> {
        let mut state = self.state();
        let before = state.drained.len();
        state.drained.retain(|drained| *drained != core);
        let was = state.drained.len() < before;
        drop(state);
        let done = if was { Ok(()) } else { Err("it is not drained".to_owned()) };
        self.noted(operator, "undrain-core", &json!({ "core": core }), done, "takes slots")?;
        Ok(self.cores())
    }

    /// The cores: what each has and uses.
    pub fn cores(&self) -> Value {
        let table = self.control.slots();
        let state = self.state();
        let core = |core| shown::core(core, &table, &state.loads, state.drained.contains(&core));
        json!({ "cores": (0..self.control.cores()).map(core).collect::<Vec<_>>() })
    }

    /// All slots.
    pub fn shards(&self) -> Value {
        let (table, state) = (self.control.slots(), self.state());
        shown::shards(&table, &state.loads)
    }

    /// One slot: what it costs, and why it is where it is.
    pub fn explain(&self, number: u16) -> Result<Value, String> {
        let slot = slot_of(number)?;
        let (table, state) = (self.control.slots(), self.state());
        let planned = state.plan(&table, self.control.cores());
        let next = planned.moves.iter().find(|step| step.slot == slot).map(|step| step.to);
        Ok(shown::explain(
            slot,
            &table,
            &state.loads,
            state.moved[usize::from(number)],
            (next, planned.skew.0),
        ))
    }

    /// Moves what is to be moved, until the node stops.
    fn move_all(&self) {
        let mut state = self.state();
        loop {
            let Some((step, id)) = state.run.as_mut().and_then(Run::next) else {
                let wait = state.run.as_ref().map_or(LOOK, Run::wait);
                state = self.news.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            drop(state);
            let moved = match self.control.slots().owner(step.slot).0 == step.from {
                true => self.moves(step.slot, step.from, step.to),
                false => Err(MoveError::IsThere),
            };
            if moved == Err(MoveError::Stopping) {
                return;
            }
            state = self.state();
            if let Some(run) = state.run.as_mut().filter(|run| run.plan == id) {
                run.made(moved.ok());
                if run.ended == Some(Ended::Done) {
                    let (done, left_out) = (run.done, run.left_out);
                    let what = json!({ "plan": id, "moved": done, "left_out": left_out });
                    self.audit.note("ternd", "rebalance", &what, "done");
                }
            }
        }
    }
}

/// What all cores have counted.
fn sum(cores: &[CoreLoad], part: impl Fn(&CoreLoad) -> &Times) -> Times {
    let mut sum = cores.first().map(|core| part(core).clone()).unwrap_or_default();
    for core in &cores[1..] {
        sum.iter_mut().zip(part(core)).for_each(|((_, sum), (_, count))| *sum += count);
    }
    sum
}

impl State {
    /// Whether the node is to balance itself now.
    fn should_balance(&mut self, table: &SlotTable, cores: u16) -> bool {
        let busiest_ns = (0..cores).map(|core| self.loads.of_core(core)).fold(0.0, f64::max);
        let mean_ns = (0..cores).map(|core| self.loads.of_core(core)).sum::<f64>() / f64::from(cores.max(1));
        let is_free = self.run.as_ref().is_none_or(|run| run.ended.is_some());
        self.automatic.look(busiest_ns, mean_ns) && is_free && !self.plan(table, cores).moves.is_empty()
    }

    fn plan(&self, table: &SlotTable, cores: u16) -> Plan {
        let placed: Vec<_> = (0..SLOTS)
            .map(|number| {
                let slot = Slot::new(number).expect("it is below their number");
                let rests = self.moved[usize::from(number)].is_some_and(|moved| moved.at.elapsed() < REST);
                let load_ns = self.loads.of_slot(number).load_ns as u64;
                Placed { slot, core: table.owner(slot).0, load_ns, rests }
            })
            .collect();
        plan(&placed, cores, &self.drained, Aim::default())
    }
}

fn slot_of(number: u16) -> Result<Slot, String> {
    Slot::new(number).ok_or_else(|| format!("slots are counted from 0 to {}", SLOTS - 1))
}

fn checked(rate: f64) -> Result<f64, String> {
    match rate {
        0.1..=RATE_MAX => Ok(rate),
        _ => Err(format!("a rate is 0.1 to {RATE_MAX} moves a second")),
    }
}
