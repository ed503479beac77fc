//! Who is to have which slot. Pure: it is told what there is, and says what is to move; who carries that out is the server.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod plan;
