//! The decision: from who asks, the policies, what is asked, the environment and trust, to what is allowed and why.
//! Pure. What no policy allows is not allowed.

use super::{ANY, Action, Mask, Membership, Policy, Resource, Restriction, Role, read::Target, scope::Bindings};
use crate::{
    base::{clock::Timestamp, environment::Environment, fault::Fault},
    domain::filter::Filter,
};
use std::{collections::HashMap, sync::Arc};

/// Policies about one resource, and conditions of theirs in all, at most.
const MOST_OF_ONE: usize = 100;
const MOST_CONDITIONS: usize = 500;

/// Every policy in force, by what it opens.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    collections: HashMap<String, Vec<Arc<Policy>>>,
    modules: HashMap<String, Vec<Arc<Policy>>>,
}

/// All that is known of who asks.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub identity: &'a str,
    pub roles: &'a [Role],
    pub memberships: &'a [Membership],
    pub restriction: Option<&'a Restriction>,
    pub trust: u8,
    pub environment: Environment,
    pub now: Timestamp,
}

/// What one policy allows one caller.
#[derive(Debug, Clone)]
pub struct Clause {
    pub policy: Arc<Policy>,
    /// `where`, bound to the caller.
    pub scope: Arc<Filter>,
}

/// What one policy says of what is asked.
#[derive(Debug, Clone)]
pub enum Verdict {
    Allows(Clause),
    Passes(Reason),
}

/// Why a policy allows nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is about other actions.
    Action,
    /// The caller has none of its roles.
    Role,
    /// The caller's trust is under what it asks for.
    Trust { needed: u8, has: u8 },
    /// It does not hold in this environment.
    Environment,
    /// Its `where` cannot be bound.
    Scope,
}

impl PolicySet {
    pub fn new(policies: impl IntoIterator<Item = Policy>) -> Self {
        let mut set = Self::default();
        for policy in policies {
            let policy = Arc::new(policy);
            let (kind, name) = match &policy.target {
                Target::Collection(name) => (&mut set.collections, name),
                Target::Module(name) => (&mut set.modules, name),
            };
            kind.entry(name.clone()).or_default().push(policy);
        }
        set
    }

    /// Refuses policies that would make every request to what they are about too dear: all of them are asked, and their
    /// conditions of every document looked at.
    pub fn check(&self) -> Result<(), Fault> {
        let collections = self.collections.keys().map(|name| Resource::Collection(name));
        for resource in collections.chain(self.modules.keys().map(|name| Resource::Module(name))) {
            let conditions: usize = self.about(resource).map(|policy| policy.scope.conditions()).sum();
            if self.about(resource).count() > MOST_OF_ONE || conditions > MOST_CONDITIONS {
                let (Resource::Collection(name) | Resource::Module(name)) = resource;
                let fault = Fault::new("policies.of_one").with("name", name);
                return Err(fault.with("limit", MOST_OF_ONE).with("conditions", MOST_CONDITIONS));
            }
        }
        Ok(())
    }

    /// Those about a resource, by name or with all others.
    pub fn about(&self, resource: Resource<'_>) -> impl Iterator<Item = &Arc<Policy>> {
        let (kind, name) = match resource {
            Resource::Collection(name) => (&self.collections, name),
            Resource::Module(name) => (&self.modules, name),
        };
        let names = if name == ANY { [Some(ANY), None] } else { [Some(name), Some(ANY)] };
        names.into_iter().flatten().filter_map(|name| kind.get(name)).flatten()
    }

    /// What the policies allow of it: nothing, when none does.
    pub fn decide(&self, facts: &Facts<'_>, action: Action, resource: Resource<'_>) -> Vec<Clause> {
        if facts.restriction.is_some_and(|restriction| !restriction.allows(action, resource)) {
            return Vec::new();
        }
        self.about(resource)
            .filter_map(|policy| match judge(policy, facts, action) {
                Verdict::Allows(clause) => Some(clause),
                Verdict::Passes(_) => None,
            })
            .collect()
    }
}

/// One policy's say. A role in an organization counts for the organizations it is held in and no others.
pub fn judge(policy: &Arc<Policy>, facts: &Facts<'_>, action: Action) -> Verdict {
    if !policy.actions.contains(&action) {
        return Verdict::Passes(Reason::Action);
    }
    if !policy.environments.is_empty() && !policy.environments.contains(&facts.environment) {
        return Verdict::Passes(Reason::Environment);
    }
    let roles = &policy.roles;
    let wide = roles.everyone || facts.roles.iter().any(|role| roles.instance.contains(role));
    let held = facts.memberships.iter().filter(|held| wide || roles.member.contains(&held.role));
    let organizations: Vec<&str> = held.map(|held| held.organization.as_str()).collect();
    if !wide && organizations.is_empty() {
        return Verdict::Passes(Reason::Role);
    }
    if facts.trust < policy.min_trust {
        return Verdict::Passes(Reason::Trust { needed: policy.min_trust, has: facts.trust });
    }
    let bindings = Bindings { identity: facts.identity, organizations: &organizations, now: facts.now };
    match policy.scope.bind(&bindings) {
        Ok(scope) => Verdict::Allows(Clause { policy: policy.clone(), scope }),
        Err(_) => Verdict::Passes(Reason::Scope),
    }
}

impl Clause {
    pub fn read(&self) -> &Mask {
        &self.policy.read
    }

    pub fn write(&self) -> &Mask {
        &self.policy.write
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::MemberRole;
    use bson::{RawDocumentBuf, rawdoc};

    fn facts<'a>(roles: &'a [Role], memberships: &'a [Membership]) -> Facts<'a> {
        let (environment, now) = (Environment::Production, Timestamp(5));
        Facts { identity: "me", roles, memberships, restriction: None, trust: 50, environment, now }
    }

    fn policies(documents: &[(&str, RawDocumentBuf)]) -> PolicySet {
        PolicySet::new(documents.iter().map(|(name, document)| Policy::read(name, document).expect("a policy")))
    }

    fn member(organization: &str, role: MemberRole) -> Membership {
        Membership { organization: organization.to_owned(), role }
    }

    const C: Resource<'static> = Resource::Collection("c");

    #[test]
    fn nothing_is_allowed_but_what_a_policy_allows() {
        let set = policies(&[
            ("all", rawdoc! { "collection": "*", "action": "VIEW", "roles": ["auditor"] }),
            ("one", rawdoc! { "collection": "c", "action": ["VIEW", "UPDATE"], "roles": ["identity"] }),
            ("part", rawdoc! { "module": "audit", "action": "VIEW", "roles": ["auditor"] }),
        ]);
        let count = |roles: &[Role], action, resource| set.decide(&facts(roles, &[]), action, resource).len();
        assert_eq!(count(&[], Action::View, C), 1);
        assert_eq!(count(&[Role::Auditor], Action::View, C), 2);
        assert_eq!(count(&[], Action::Update, C), 1);
        assert_eq!(count(&[], Action::Delete, C), 0);
        assert_eq!(count(&[], Action::View, Resource::Collection("d")), 0);
        assert_eq!(count(&[], Action::View, Resource::Module("audit")), 0);
        assert_eq!(count(&[Role::Auditor], Action::View, Resource::Module("c")), 0);
        assert_eq!(count(&[Role::Admin], Action::Manage, C), 0, "an administrator without a policy");
        assert_eq!(PolicySet::default().decide(&facts(&Role::ALL, &[]), Action::View, C).len(), 0);
    }

    #[test]
    fn a_role_counts_where_it_is_held() {
        let scope = rawdoc! { "_organization": { "$in": "$identity.organizations" } };
        let set = policies(&[
            ("lead", rawdoc! { "collection": "c", "action": "VIEW", "roles": ["OWNER"], "where": scope.clone() }),
            ("any", rawdoc! { "collection": "d", "action": "VIEW", "roles": ["identity"], "where": scope }),
        ]);
        let held = [member("o1", MemberRole::Owner), member("o2", MemberRole::Member)];
        let sees = |resource, organization: &str| {
            let clauses = set.decide(&facts(&[], &held), Action::View, resource);
            clauses.iter().any(|clause| clause.scope.matches(&rawdoc! { "_organization": organization }))
        };
        assert!(sees(C, "o1"), "the owner's own");
        assert!(!sees(C, "o2"), "an owner elsewhere saw what a member may not");
        let d = Resource::Collection("d");
        assert!(sees(d, "o1") && sees(d, "o2") && !sees(d, "o3"));
        assert!(set.decide(&facts(&[], &held[1..]), Action::View, C).is_empty());
    }

    #[test]
    fn every_condition_must_hold_and_the_one_that_does_not_is_told() {
        let policy = Policy::read(
            "p",
            &rawdoc! {
                "collection": "c", "action": "VIEW", "roles": ["auditor"], "min_trust": 60,
                "environments": ["production"],
            },
        );
        let policy = Arc::new(policy.expect("a policy"));
        let base = Facts { trust: 60, ..facts(&[Role::Auditor], &[]) };
        let reason = |facts: Facts<'_>, action| match judge(&policy, &facts, action) {
            Verdict::Allows(_) => None,
            Verdict::Passes(reason) => Some(reason),
        };
        assert_eq!(reason(base, Action::View), None);
        assert_eq!(reason(base, Action::Update), Some(Reason::Action));
        assert_eq!(reason(Facts { roles: &[Role::Admin], ..base }, Action::View), Some(Reason::Role));
        assert_eq!(reason(Facts { trust: 59, ..base }, Action::View), Some(Reason::Trust { needed: 60, has: 59 }));
        let elsewhere = Facts { environment: Environment::Staging, ..base };
        assert_eq!(reason(elsewhere, Action::View), Some(Reason::Environment));
    }

    #[test]
    fn a_restricted_proof_is_good_for_no_more_than_it_says() {
        let set = policies(&[("all", rawdoc! { "collection": "*", "action": ["VIEW", "UPDATE"], "roles": ["admin"] })]);
        let restriction =
            Restriction { actions: vec![Action::View], collections: Some(vec!["c".to_owned()]), modules: Vec::new() };
        let facts = Facts { restriction: Some(&restriction), ..facts(&[Role::Admin], &[]) };
        assert_eq!(set.decide(&facts, Action::View, C).len(), 1);
        assert_eq!(set.decide(&facts, Action::Update, C).len(), 0);
        assert_eq!(set.decide(&facts, Action::View, Resource::Collection("d")).len(), 0);
    }
}
