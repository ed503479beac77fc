//! All orders of events, in a model of the kernel: see [`world`].
//!
//! Two searches: one through every state that a connection and its kernel can come to, breadth first, so that what it finds is the
//! shortest order of events that leads there; and one of random lives that follow each other on the same places.

#![allow(clippy::print_stdout, reason = "what a search has found, and the seed that repeats a failure")]

mod choices;
mod fate;
mod kernel;
mod orders;
mod places;
mod world;
