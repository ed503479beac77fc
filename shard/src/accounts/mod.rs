//! Accounts: phones and their one-time codes, users and their devices, tokens, and who may ask how often.
//!
//! A user is made by the slot of the phone that registers, so a phone, its user and the user's devices have one owner
//! and change in one batch.

pub mod addresses;
pub mod bucket;
pub mod budgets;
pub mod codes;
mod devices;
mod kept;
pub(crate) mod people;
pub mod phones;
pub mod tokens;
pub mod users;
pub mod waiting;
mod waits;

pub(crate) use waits::{After, GetFor, ScanFor};

use tern_storage::{Slot, StoreError};

use crate::Cx;

/// A record is not what was written: an operator must know. Whose it is, nobody is told.
fn report_damage(cx: &mut Cx, what: &str, slot: Slot) {
    cx.fx.store_trouble(&StoreError::Corrupt { place: format!("{what} in slot {}", slot.number()) });
}
