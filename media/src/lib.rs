//! The bytes of media: they never go through a chat. Uploads that resume (tus 1.0), downloads under signed links, and the stores in
//! which media lie.
//!
//! What always holds:
//! - What an upload was told to have is durable: an offset is answered after the bytes before it are synced.
//! - A medium is whole or not there: it gets its place when all of its bytes are, and what they are is what was declared.
//! - Who may upload, and how much, is asked of a [`Gate`](gate::Gate) before a byte comes.
//! - Whoever has a link that is signed and not over gets the bytes; nobody else learns whether there is such a medium.
//!
//! It refuses to know: chats, messages and users' accounts, and what a reference to a medium says.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod gate;
pub mod http;
pub mod kinds;
pub mod limits;
mod metadata;
pub mod store;
mod uploads;

pub use tern_wire::links;
pub use tern_wire::media_id as id;
