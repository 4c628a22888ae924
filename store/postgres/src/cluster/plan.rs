//! What one daemon does with the shards, from what it sees. Pure.

use super::view::{Seat, View};
use super::{SHARDS, Shard};
use std::collections::BTreeSet;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take over from a daemon whose lease has expired.
    Fence(Seat, i64),
    /// Claim this many shards that are free.
    Claim(usize),
    /// Read these shards: they are this daemon's, and not in its memory.
    Load(Vec<Shard>),
    /// Give these shards to others.
    Give(Vec<Shard>),
}

/// Returns what the daemon on seat `me` does. `held` are the shards in its memory; `healthy` says that it renewed its
/// lease all through the last one, so that after an outage all renew before anyone is fenced.
pub(crate) fn plan(me: Seat, view: &View, held: &BTreeSet<Shard>, healthy: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let others = view.members.iter().filter(|(seat, _)| **seat != me);
    let (expired, alive): (Vec<_>, Vec<_>) = others.partition(|(_, member)| member.is_expired());
    if healthy {
        let fence = |(seat, member): &(&Seat, &super::view::Member)| {
            Step::Fence(**seat, member.incarnation)
        };
        steps.extend(expired.iter().map(fence));
    }
    // A daemon that can't be reached by others takes part like any other.
    let share = SHARDS.div_ceil(alive.len() + 1);
    let owned: BTreeSet<Shard> = view.shards_of(me).collect();
    let unread: Vec<Shard> = owned.difference(held).copied().collect();
    if !unread.is_empty() {
        steps.push(Step::Load(unread));
    }
    if owned.len() > share {
        let surplus = owned.len() - share;
        // The last ones, so that two daemons that see the same give and claim the same.
        steps.push(Step::Give(
            owned.iter().rev().take(surplus).copied().collect(),
        ));
    } else if owned.len() < share && view.free() > 0 {
        steps.push(Step::Claim((share - owned.len()).min(view.free())));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::view::Member;
    use super::*;

    fn member(lease_ms: i64) -> Member {
        Member {
            incarnation: 1,
            schema: 1,
            version: "1".to_owned(),
            address: None,
            certificate: None,
            lease_ms,
            seen_ms: 0,
        }
    }

    fn view(members: &[(Seat, i64)], owners: &[(std::ops::RangeInclusive<u8>, Seat)]) -> View {
        let owners = owners
            .iter()
            .flat_map(|(shards, seat)| shards.clone().map(|shard| (Shard(shard), *seat)));
        View {
            members: members
                .iter()
                .map(|(seat, lease_ms)| (*seat, member(*lease_ms)))
                .collect(),
            owners: owners.collect(),
            ..View::default()
        }
    }

    fn shards(of: std::ops::RangeInclusive<u8>) -> BTreeSet<Shard> {
        of.map(Shard).collect()
    }

    #[test]
    fn the_only_daemon_claims_all() {
        let seen = view(&[(0, 5)], &[]);
        assert_eq!(plan(0, &seen, &BTreeSet::new(), false), [Step::Claim(256)]);
    }

    #[test]
    fn what_was_claimed_and_not_read_is_read() {
        let seen = view(&[(0, 5)], &[(0..=255, 0)]);
        let unread: Vec<Shard> = shards(200..=255).into_iter().collect();
        assert_eq!(plan(0, &seen, &shards(0..=199), true), [Step::Load(unread)]);
    }

    #[test]
    fn who_has_more_than_its_share_gives_the_rest_and_no_more() {
        let seen = view(&[(0, 5), (1, 5)], &[(0..=255, 0)]);
        let surplus: Vec<Shard> = (128..=255).rev().map(Shard).collect();
        assert_eq!(
            plan(0, &seen, &shards(0..=255), true),
            [Step::Give(surplus)]
        );
        assert_eq!(plan(1, &seen, &BTreeSet::new(), true), []);
        let even = view(&[(0, 5), (1, 5)], &[(0..=127, 0), (128..=255, 1)]);
        assert_eq!(plan(0, &even, &shards(0..=127), true), []);
        assert_eq!(plan(1, &even, &shards(128..=255), true), []);
    }

    #[test]
    fn three_daemons_share_without_moving_anything_twice() {
        let seen = view(
            &[(0, 5), (1, 5), (2, 5)],
            &[(0..=85, 0), (86..=171, 1), (172..=255, 2)],
        );
        for (me, held) in [(0, 0..=85), (1, 86..=171), (2, 172..=255)] {
            assert_eq!(plan(me, &seen, &shards(held), true), [], "seat {me}");
        }
    }

    #[test]
    fn only_a_healthy_daemon_takes_over_from_one_whose_lease_expired() {
        let seen = view(&[(0, 5), (1, -1)], &[(0..=127, 0), (128..=255, 1)]);
        assert_eq!(plan(0, &seen, &shards(0..=127), false), []);
        assert_eq!(plan(0, &seen, &shards(0..=127), true), [Step::Fence(1, 1)]);
        // Once it is fenced, its shards are free.
        let fenced = view(&[(0, 5)], &[(0..=127, 0)]);
        assert_eq!(plan(0, &fenced, &shards(0..=127), true), [Step::Claim(128)]);
    }
}
