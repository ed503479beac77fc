//! Accounts: phones and their one-time codes, users and their devices, tokens, and who may ask how often.
//!
//! A user is made by the slot of the phone that registers, so a phone, its user and the user's devices have one owner
//! and change in one batch.

pub mod addresses;
mod kept;
pub mod phones;
pub mod tokens;
pub mod users;
