//! How Drizzle and the built-in adapter of Better Auth spell what they spell differently, and its JSON: the first that
//! is there counts.

pub(super) const EXPIRES: [&str; 2] = ["expires_at", "expiresAt"];
pub(super) const BAN_EXPIRES: [&str; 2] = ["ban_expires", "banExpires"];
pub(super) const IMPERSONATED_BY: [&str; 2] = ["impersonated_by", "impersonatedBy"];
