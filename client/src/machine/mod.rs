//! The protocol part of the client as a state machine.

#![allow(dead_code, unused_imports, reason = "the driver moves onto it with the next commit")]

mod entropy;
mod memory;
mod records;
pub mod rows;
pub mod tables;

pub use memory::Memory;
