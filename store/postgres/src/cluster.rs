//! Many daemons on one database: each holds a seat by a lease, and shards of organizations by its seat.

pub(crate) mod clock;
pub(crate) mod form;
pub(crate) mod marks;
pub(crate) mod plan;
pub(crate) mod seat;
pub(crate) mod view;

pub use seat::Lease;
pub use view::{Member, Seat, View};

use md5::{Digest, Md5};

/// The number of shards.
pub const SHARDS: usize = 256;

/// The organizations whose names have this first byte of MD5. The function `shard_of` of the schema computes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

impl Shard {
    /// Returns the shard of an organization.
    #[must_use]
    pub fn of(organization: &str) -> Self {
        let digest = Md5::digest(organization.as_bytes());
        Self(digest.first().copied().unwrap_or(0))
    }

    pub(crate) fn number(self) -> i16 {
        i16::from(self.0)
    }

    pub(crate) fn numbered(number: i16) -> Option<Self> {
        u8::try_from(number).ok().map(Self)
    }
}
