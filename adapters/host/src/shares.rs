//! Fair shares of a limited resource among those who hold it or wait for it.

use std::collections::{BTreeMap, BTreeSet};

/// What has a share: one who holds and waits, or a group of them.
pub(crate) trait Member: Default {
    /// How much it holds.
    fn held(&self) -> usize;

    /// The ticket of one that waits, if any does. Tickets are numbered in order of arrival.
    fn next_ticket(&self) -> Option<u64>;
}

/// Members with equal rights: each may hold as much as the others.
#[derive(Debug)]
pub(crate) struct Group<M> {
    members: BTreeMap<u32, M>,
    held: usize,
    /// The members that wait: those that hold least first, then in order of arrival.
    waiting: BTreeSet<(usize, u64, u32)>,
    /// The members that hold anything: those that hold most last.
    holding: BTreeSet<(usize, u32)>,
}

impl<M> Default for Group<M> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            held: 0,
            waiting: BTreeSet::new(),
            holding: BTreeSet::new(),
        }
    }
}

impl<M: Member> Group<M> {
    /// Changes the member `id`. One that neither holds nor waits afterwards is removed.
    pub(crate) fn change<T>(&mut self, id: u32, change: impl FnOnce(&mut M) -> T) -> T {
        let member = self.members.entry(id).or_default();
        let before = (member.held(), member.next_ticket());
        let result = change(member);
        let after = (member.held(), member.next_ticket());
        if before != after {
            if let (held, Some(ticket)) = before {
                self.waiting.remove(&(held, ticket, id));
            }
            if let (held, Some(ticket)) = after {
                self.waiting.insert((held, ticket, id));
            }
            self.holding.remove(&(before.0, id));
            if after.0 > 0 {
                self.holding.insert((after.0, id));
            }
            self.held = self.held - before.0 + after.0;
        }
        if after == (0, None) {
            self.members.remove(&id);
        }
        result
    }

    /// The member whose turn it is to receive.
    pub(crate) fn poorest(&self) -> Option<u32> {
        self.waiting.first().map(|(_, _, id)| *id)
    }

    /// The member that holds most, if that is more than its share.
    ///
    /// `total` is shared among all members. A member that holds one thing never has too much.
    pub(crate) fn richest(&self, total: usize) -> Option<u32> {
        let share = (total / self.members.len().max(1)).max(1);
        self.holding.last().filter(|(held, _)| *held > share).map(|(_, id)| *id)
    }

    /// The member that holds most.
    pub(crate) fn most(&self) -> Option<u32> {
        self.holding.last().map(|(_, id)| *id)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&M> {
        self.members.get(&id)
    }
}

impl<M: Member> Member for Group<M> {
    fn held(&self) -> usize {
        self.held
    }

    fn next_ticket(&self) -> Option<u64> {
        self.waiting.first().map(|(_, ticket, _)| *ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count {
        held: usize,
        waiting: Option<u64>,
    }

    impl Member for Count {
        fn held(&self) -> usize {
            self.held
        }

        fn next_ticket(&self) -> Option<u64> {
            self.waiting
        }
    }

    #[test]
    fn member_that_holds_least_is_next() {
        let mut group = Group::<Count>::default();
        for (id, held, waiting) in [(1, 5, Some(10)), (2, 0, Some(12)), (3, 0, Some(11))] {
            group.change(id, |member| (member.held, member.waiting) = (held, waiting));
        }
        assert_eq!((group.held(), group.next_ticket()), (5, Some(11)));
        assert_eq!(group.poorest(), Some(3));
        group.change(3, |member| (member.held, member.waiting) = (1, None));
        assert_eq!(group.poorest(), Some(2));
        group.change(2, |member| member.waiting = None);
        assert!(group.get(2).is_none(), "it neither holds nor waits");
        assert_eq!(group.poorest(), Some(1));
    }

    #[test]
    fn richest_member_exceeds_an_equal_share() {
        let mut group = Group::<Count>::default();
        group.change(1, |member| member.held = 4);
        assert_eq!(group.richest(4), None, "alone it may hold all");
        group.change(2, |member| member.waiting = Some(1));
        assert_eq!(group.richest(4), Some(1));
        group.change(1, |member| member.held = 2);
        assert_eq!(group.richest(4), None);
        // More members than there is to hold: one each.
        assert_eq!(group.richest(1), Some(1));
        group.change(1, |member| member.held = 1);
        assert_eq!(group.richest(1), None);
    }

    #[test]
    fn groups_nest() {
        let mut principals = Group::<Group<Count>>::default();
        let add = |principals: &mut Group<Group<Count>>, principal, address, held, waiting| {
            principals.change(principal, |addresses| {
                addresses.change(address, |it| (it.held, it.waiting) = (held, waiting));
            });
        };
        add(&mut principals, 1, 1, 3, None);
        add(&mut principals, 1, 2, 1, Some(1));
        add(&mut principals, 2, 1, 0, Some(2));
        assert_eq!(principals.poorest(), Some(2));
        assert_eq!(principals.richest(4), Some(1));
        let addresses = principals.get(1).unwrap();
        assert_eq!((addresses.held(), addresses.richest(4)), (4, Some(1)));
        assert_eq!(addresses.poorest(), Some(2));
    }
}
