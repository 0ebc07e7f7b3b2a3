//! Requests as bytes become calls, answers become bytes: what every transport of our own shares.
//!
//! Lives here: reading requests, writing replies, INIT. Never here: how bytes get to the kernel (a [`Port`] does that)
//! and what a call does. Every byte of a request is taken for anybody's: what is malformed is answered with an error.

mod arguments;
mod handshake;
mod listing;
mod message;
mod reply;
mod server;

#[cfg(test)]
mod tests;

pub(crate) use arguments::Arguments;
pub(crate) use handshake::{Agreement, Answer, Wishes, agree, offers_ring};
pub(crate) use reply::Port;
pub(crate) use server::Server;
