//! target
mod pattern;
pub use pattern::{Pattern, PatternError};
/// Policy
#[derive(Debug, Clone, Default)]
pub struct TargetPolicy {
    /// a
    pub allow: Vec<Pattern>,
    /// a
    pub deny: Vec<Pattern>,
    /// a
    pub allow_http: bool,
}
