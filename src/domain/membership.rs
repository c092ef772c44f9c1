//! Who may hand out roles in an organization, whatever the policies say.

use super::policy::MemberRole;
use crate::base::fault::Fault;

/// A membership made (`from` absent), changed or ended (`to` absent).
#[derive(Debug, Clone, Copy)]
pub struct Move {
    pub from: Option<MemberRole>,
    pub to: Option<MemberRole>,
}

impl Move {
    /// Whether a member of this role may do it; `own`: it is the member's own membership.
    pub fn allowed(self, actor: Option<MemberRole>, own: bool) -> Result<(), Fault> {
        if own && self.to.is_some_and(|to| self.from.is_none_or(|from| rank(to) > rank(from))) {
            return Err(Fault::new("memberships.own_role").at("role"));
        }
        // Stepping down and leaving are everybody's right.
        let high = [self.from, self.to].into_iter().flatten().any(|role| rank(role) >= rank(MemberRole::Admin));
        if high && !own && actor != Some(MemberRole::Owner) {
            return Err(Fault::new("memberships.owner_only").at("role"));
        }
        Ok(())
    }

    /// Whether it takes an owner away.
    pub fn loses_owner(self) -> bool {
        self.from == Some(MemberRole::Owner) && self.to != Some(MemberRole::Owner)
    }
}

fn rank(role: MemberRole) -> u8 {
    match role {
        MemberRole::Member => 0,
        MemberRole::Staff => 1,
        MemberRole::Admin => 2,
        MemberRole::Owner => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberRole::{Admin, Member, Owner, Staff};

    fn refused(from: Option<MemberRole>, to: Option<MemberRole>, actor: MemberRole, own: bool) -> Option<&'static str> {
        Move { from, to }.allowed(Some(actor), own).err().map(|fault| fault.key)
    }

    #[test]
    fn only_an_owner_makes_and_unmakes_owners_and_admins() {
        for high in [Owner, Admin] {
            for actor in [Admin, Staff, Member] {
                for (from, to) in [(None, Some(high)), (Some(high), None), (Some(high), Some(Member))] {
                    assert_eq!(refused(from, to, actor, false), Some("memberships.owner_only"), "{actor:?}");
                }
                assert_eq!(refused(Some(Member), Some(high), actor, false), Some("memberships.owner_only"));
            }
            assert_eq!(refused(None, Some(high), Owner, false), None);
            assert_eq!(refused(Some(high), None, Owner, false), None);
        }
        assert_eq!(refused(None, Some(Staff), Admin, false), None);
        assert_eq!(refused(Some(Staff), Some(Member), Admin, false), None);
        assert!(Move { from: None, to: Some(Owner) }.allowed(None, false).is_err(), "a stranger made an owner");
    }

    #[test]
    fn nobody_raises_themselves_and_everybody_may_leave() {
        for (from, to) in [(Admin, Owner), (Staff, Admin), (Member, Staff)] {
            assert_eq!(refused(Some(from), Some(to), from, true), Some("memberships.own_role"));
            assert_eq!(refused(Some(to), Some(from), to, true), None);
            assert_eq!(refused(Some(from), None, from, true), None);
        }
        assert_eq!(refused(None, Some(Member), Member, true), Some("memberships.own_role"));
    }
}
