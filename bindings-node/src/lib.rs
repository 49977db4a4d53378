//! The engine as a Node addon. JavaScript holds the lifecycle and the hooks as Hocuspocus has them; sockets,
//! protocol, fan-out and awareness are here. Both meet in one ordered queue of events (`event`, `queue`),
//! questions among them that JavaScript answers by ticket (`tickets`), and in the methods of [`engine::Engine`].

mod descriptor;
mod document;
mod engine;
mod event;
mod extension;
mod host_socket;
mod options;
mod queue;
mod rooms;
mod runtime;
mod tickets;
