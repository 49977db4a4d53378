//! WebSockets over raw sockets, after their handshake, as transports of the hub. The server's listener and the
//! Node front, which is handed descriptors, share it; it knows neither, nor HTTP.

#![forbid(unsafe_code)]

pub mod stream;
pub mod websocket;
