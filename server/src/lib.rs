//! The standalone server.

mod clock;
pub mod config;
pub mod logging;
pub mod origin;
pub mod peer;
