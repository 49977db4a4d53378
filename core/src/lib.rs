//! The engine of Fidibus: a sync server for Yjs documents, without a listener. Fronts (the server, the
//! npm module, the C library) bring sockets and configuration; everything else is here.
//!
//! The way of a message: a front's [`hub::Transport`] → [`connection::Connection`] (which session is
//! it for?) → the inbox of a [`room::Room`] (what does it change?) → the [`room::Outbox`] of every
//! subscriber → their transports. Beside it, what changed goes to the [`store`]'s update log, whose
//! commit releases the ack.

#![forbid(unsafe_code)]

pub mod auth;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod error;
pub mod hooks;
pub mod hub;
pub mod id;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod room;
pub mod store;
