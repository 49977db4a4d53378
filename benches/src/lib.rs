//! The load harness of Fidibus and the relays that it measures beside.
//!
//! `load` drives any Hocuspocus or y-websocket endpoint with real Yjs updates and checks on arrival that nothing was
//! lost; `relay` is the ceiling: the same sockets without a CRDT. The method is in `benches/README.md`.

pub mod crowd;
pub mod dialect;
pub mod latency;
pub mod logins;
pub mod net;
pub mod peer;
pub mod plan;
pub mod postgres;
pub mod proc;
pub mod profile;
pub mod relay;
pub mod report;
pub mod scan;
pub mod scenario;
pub mod trace;
pub mod wire;
