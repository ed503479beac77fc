//! What operators are shown of slots, cores, plans and their way.

use serde_json::{Value, json};
use tern_cluster::plan::{Move, Plan};
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::{SLOTS, Slot};

use super::loads::{Loads, Rate};
use super::run::{Ended, Run};
use super::{Moved, REST};

fn rate(rate: Rate) -> Value {
    let [came, sent, decided, written] = rate.operations;
    json!({
        "cpu_us_per_s": rate.load_ns / 1e3, "frames_in_per_s": came, "frames_out_per_s": sent, "decided_per_s": decided,
        "rows_per_s": written, "bytes_per_s": rate.bytes,
    })
}

fn with(mut object: Value, more: &Value) -> Value {
    let pairs = more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    object.as_object_mut().expect("an object").extend(pairs);
    object
}

/// A core.
pub(super) fn core(core: u16, table: &SlotTable, loads: &Loads, drained: bool) -> Value {
    let own = (0..SLOTS).filter(|number| owner(table, *number) == core);
    let slots_us: f64 = own.map(|number| loads.of_slot(number).load_ns / 1e3).sum();
    json!({
        "core": core, "slots": table.owned_by(CoreId(core)), "drained": drained,
        "cpu_us_per_s": loads.of_core(core) / 1e3, "slots_us_per_s": slots_us,
    })
}

fn owner(table: &SlotTable, number: u16) -> u16 {
    table.owner(Slot::new(number).expect("it is below their number")).0
}

/// All slots: who has each, and of those that are used what they take.
pub(super) fn shards(table: &SlotTable, loads: &Loads) -> Value {
    let owners: Vec<_> = (0..SLOTS).map(|number| owner(table, number)).collect();
    let used = (0..SLOTS).filter(|number| loads.of_slot(*number).load_ns >= 1.0);
    let used: Vec<_> = used
        .map(|number| {
            let place = json!({ "slot": number, "core": owners[usize::from(number)] });
            with(place, &rate(loads.of_slot(number)))
        })
        .collect();
    json!({ "version": table.version(), "owners": owners, "used": used })
}

/// A slot.
pub(super) fn explain(
    slot: Slot,
    table: &SlotTable,
    loads: &Loads,
    moved: Option<Moved>,
    (next, skew): (Option<u16>, f64),
) -> Value {
    let number = slot.number();
    let (core, load) = (owner(table, number), loads.of_slot(number));
    let of_core: f64 = (0..SLOTS)
        .filter(|other| owner(table, *other) == core)
        .map(|other| loads.of_slot(other).load_ns)
        .sum();
    let share = if of_core > 0.0 { load.load_ns / of_core } else { 0.0 };
    let rests_s = moved.map(|moved| REST.saturating_sub(moved.at.elapsed()).as_secs());
    let why = match (next, rests_s) {
        (Some(to), _) => format!("it would move to core {to} if what is planned now were carried out"),
        (None, Some(rests)) if rests > 0 => {
            format!("it has moved a short while ago, and rests for {rests} s")
        }
        (None, _) if skew <= tern_cluster::plan::Aim::default().begin => {
            "the cores are balanced: nothing moves".to_owned()
        }
        (None, _) => "other slots of the busiest core gain more".to_owned(),
    };
    let last = moved.map(|moved| {
        json!({
            "from": moved.from, "seconds_ago": moved.at.elapsed().as_secs(), "pause_us": moved.pause.as_micros() as u64,
        })
    });
    let place = json!({
        "slot": number, "core": core, "share_of_core": share, "last_move": last, "would_move_to": next, "why": why,
    });
    with(place, &rate(load))
}

fn step(step: &Move) -> Value {
    json!({ "slot": step.slot.number(), "from": step.from, "to": step.to, "cpu_us_per_s": step.load_ns / 1000 })
}

/// A plan.
pub(super) fn plan(id: &str, plan: &Plan) -> Value {
    json!({
        "plan": id, "skew_before": plan.skew.0, "skew_after": plan.skew.1, "rate": super::RATE,
        "moves": plan.moves.iter().map(step).collect::<Vec<_>>(),
    })
}

/// What is being carried out.
pub(super) fn status(run: Option<&Run>, (now_us, before_us): (f64, f64)) -> Value {
    let Some(run) = run else { return json!({ "plan": null, "state": "none" }) };
    let state = match run.ended {
        Some(Ended::Done) => "done",
        Some(Ended::Cancelled) => "cancelled",
        None if run.paused => "paused",
        None if run.held => "held",
        None => "moving",
    };
    let [p50, p99, most] = run.pauses().map(|pause| pause.as_micros() as u64);
    let took = run.took.unwrap_or_else(|| run.began.elapsed());
    json!({
        "plan": run.plan, "state": state, "moves": run.moves.len(), "done": run.done, "left_out": run.left_out,
        "moving": run.is_moving, "rate": run.rate, "seconds": took.as_secs_f64(),
        "pause_us": { "p50": p50, "p99": p99, "max": most },
        "skew_before": run.skew.0, "skew_planned": run.skew.1,
        "ack_p99_us": { "now": now_us as u64, "before": before_us as u64 },
    })
}
