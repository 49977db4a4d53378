//! Fidibus.
