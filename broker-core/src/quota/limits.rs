//! Which quota is in force for a user and a client id (`ClientQuotaManager.DefaultQuotaCallback`).
//!
//! Of the quotas that a client could fall under, the first of these is in force, and nothing else:
//!
//! 1. user and client id
//! 2. user and the default of client ids
//! 3. user
//! 4. the default of users, and client id
//! 5. the default of users and of client ids
//! 6. the default of users
//! 7. client id
//! 8. the default of client ids
//!
//! A quota of a user is shared by the user's clients, one of a client id by the users who use it; a default is a quota
//! for each.

use core::cmp::Ordering;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::rate::Bound;
use crate::metadata::{ClientQuotasImage, QuotaEntity};

/// The user of a connection that did not authenticate.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// One part of what has a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<T> {
    /// It is not limited by this part.
    Absent,
    /// Whoever has no quota of their own.
    Default,
    /// Who has this name.
    Named(T),
}

impl Part<Arc<str>> {
    fn as_ref(&self) -> Part<&str> {
        match self {
            Part::Absent => Part::Absent,
            Part::Default => Part::Default,
            Part::Named(name) => Part::Named(name),
        }
    }
}

/// Who shares one measurement: user and client id, each empty where it makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tags<'a> {
    /// The user.
    pub user: &'a str,
    /// The client id.
    pub client_id: &'a str,
}

#[derive(Clone, Debug)]
struct Limit {
    user: Part<Arc<str>>,
    client_id: Part<Arc<str>>,
    bound: Bound,
}

/// All quotas of one kind.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Sorted.
    limits: Vec<Limit>,
    /// Bits of [`levels`].
    levels: u8,
}

/// Of whom there are quotas (`QuotaTypes`): where there are only such of one level, that level alone is looked at.
mod levels {
    pub(super) const CLIENT_ID: u8 = 1;
    pub(super) const USER: u8 = 2;
    pub(super) const USER_AND_CLIENT_ID: u8 = 4;
}

impl Limits {
    /// The quotas with this key, for example `producer_byte_rate`.
    pub fn of(image: &ClientQuotasImage, key: &str) -> Limits {
        let mut limits = Limits::default();
        for (entity, quotas) in &image.entities {
            let Some(&bits) = quotas.get(key) else { continue };
            let (user, client_id) = (part(entity, "user"), part(entity, "client-id"));
            limits.levels |= match (&user, &client_id) {
                // Of an address: no quota of a client.
                (Part::Absent, Part::Absent) => continue,
                (Part::Absent, _) => levels::CLIENT_ID,
                (_, Part::Absent) => levels::USER,
                (_, _) => levels::USER_AND_CLIENT_ID,
            };
            limits.limits.push(Limit { user, client_id, bound: Bound::from_double_bits(bits) });
        }
        limits.limits.sort_by(|a, b| a.order(b.user.as_ref(), b.client_id.as_ref()));
        limits
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// By whom a client is measured (`quotaMetricTags`).
    pub fn tags<'a>(&self, user: &'a str, client_id: &'a str) -> Tags<'a> {
        let both = Tags { user, client_id };
        let of_user = Tags { user, client_id: "" };
        let of_client_id = Tags { user: "", client_id };
        match self.levels {
            0 | levels::CLIENT_ID => return of_client_id,
            levels::USER => return of_user,
            levels::USER_AND_CLIENT_ID => return both,
            _ => {}
        }
        use Part::{Absent, Default, Named};
        let first = [
            (Named(user), Named(client_id), both),
            (Named(user), Default, both),
            (Named(user), Absent, of_user),
            (Default, Named(client_id), both),
            (Default, Default, both),
            (Default, Absent, of_user),
        ];
        let found = first.into_iter().find(|&(user, client_id, _)| self.get(user, client_id).is_some());
        found.map_or(of_client_id, |(_, _, tags)| tags)
    }

    /// What those may do who are measured together (`quotaLimit`); absent if they may do anything.
    pub fn limit(&self, tags: Tags<'_>) -> Option<Bound> {
        use Part::{Absent, Default, Named};
        let (user, client_id) = (Named(tags.user), Named(tags.client_id));
        match (tags.user.is_empty(), tags.client_id.is_empty()) {
            (false, false) => (self.get(user, client_id))
                .or_else(|| self.get(user, Default))
                .or_else(|| self.get(Default, client_id))
                .or_else(|| self.get(Default, Default)),
            (false, true) => self.get(user, Absent).or_else(|| self.get(Default, Absent)),
            (true, false) => self.get(Absent, client_id).or_else(|| self.get(Absent, Default)),
            (true, true) => None,
        }
    }

    fn get(&self, user: Part<&str>, client_id: Part<&str>) -> Option<Bound> {
        let at = self.limits.binary_search_by(|limit| limit.order(user, client_id)).ok()?;
        Some(self.limits[at].bound)
    }
}

impl Limit {
    fn order(&self, user: Part<&str>, client_id: Part<&str>) -> Ordering {
        (self.user.as_ref(), self.client_id.as_ref()).cmp(&(user, client_id))
    }
}

fn part(entity: &QuotaEntity, kind: &str) -> Part<Arc<str>> {
    match entity.iter().find(|(other, _)| **other == *kind) {
        None => Part::Absent,
        Some((_, None)) => Part::Default,
        Some((_, Some(name))) => Part::Named(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// `user=ann client-id=*` and a value, `*` for the default.
    fn image(quotas: &[(&str, u32)]) -> ClientQuotasImage {
        let mut image = ClientQuotasImage::default();
        for &(entity, value) in quotas {
            let mut parts = QuotaEntity::new();
            for word in entity.split(' ') {
                let (kind, name) = word.split_once('=').expect("a part of an entity is kind=name");
                parts.push((kind.into(), (name != "*").then(|| name.into())));
            }
            parts.sort();
            let value = f64::from(value).to_bits();
            image.entities.entry(parts).or_default().insert("producer_byte_rate".into(), value);
        }
        image
    }

    fn in_force(quotas: &[(&str, u32)], user: &str, client_id: &str) -> Option<Bound> {
        let limits = Limits::of(&image(quotas), "producer_byte_rate");
        limits.limit(limits.tags(user, client_id))
    }

    /// All levels at once, the first the strongest.
    const ALL: [(&str, u32); 8] = [
        ("user=ann client-id=c", 1),
        ("user=ann client-id=*", 2),
        ("user=ann", 3),
        ("user=* client-id=c", 4),
        ("user=* client-id=*", 5),
        ("user=*", 6),
        ("client-id=c", 7),
        ("client-id=*", 8),
    ];

    #[test]
    fn the_first_level_that_fits_is_in_force() {
        // Quotas are taken away from the strongest on: the next one is in force.
        for from in 0..ALL.len() {
            let expected = Some(Bound::per_second(u64::from(ALL[from].1)));
            assert_eq!(in_force(&ALL[from..], "ann", "c"), expected, "without the first {from}");
        }
        assert_eq!(in_force(&[], "ann", "c"), None);
    }

    #[test]
    fn each_client_falls_under_what_names_it() {
        let table =
            [("ann", "c", Some(1)), ("ann", "d", Some(2)), ("bob", "c", Some(4)), ("bob", "d", Some(5))];
        for (user, client_id, expected) in table {
            let expected = expected.map(Bound::per_second);
            assert_eq!(in_force(&ALL, user, client_id), expected, "{user} {client_id}");
        }
        // A user's quota comes before any client id's, and a user without one falls through to the client id.
        let users_and_ids = [("user=ann", 3), ("client-id=c", 7)];
        assert_eq!(in_force(&users_and_ids, "ann", "c"), Some(Bound::per_second(3)));
        assert_eq!(in_force(&users_and_ids, "bob", "c"), Some(Bound::per_second(7)));
        assert_eq!(in_force(&users_and_ids, "bob", "d"), None);
        // No quota is one of the client that has no client id.
        assert_eq!(in_force(&[("client-id=*", 8)], "bob", ""), None);
        assert_eq!(in_force(&[("user=*", 6)], "bob", ""), Some(Bound::per_second(6)));
    }

    #[test]
    fn who_shares_a_quota_is_measured_together() {
        let tags = |quotas: &[(&str, u32)], user: &str, client_id: &str| {
            let limits = Limits::of(&image(quotas), "producer_byte_rate");
            let tags = limits.tags(user, client_id);
            vec![alloc::string::String::from(tags.user), tags.client_id.into()]
        };
        assert_eq!(tags(&[("user=ann", 3)], "ann", "c"), ["ann", ""]);
        assert_eq!(tags(&[("client-id=*", 3)], "ann", "c"), ["", "c"]);
        assert_eq!(tags(&[("user=* client-id=*", 3)], "ann", "c"), ["ann", "c"]);
        assert_eq!(tags(&ALL[2..], "ann", "c"), ["ann", ""]);
        assert_eq!(tags(&ALL[2..], "bob", "c"), ["bob", "c"]);
        assert_eq!(tags(&ALL[5..], "bob", "c"), ["bob", ""]);
        assert_eq!(tags(&[("user=ann", 3), ("client-id=c", 7)], "bob", "c"), ["", "c"]);
    }

    #[test]
    fn addresses_and_other_keys_are_no_quotas_of_this_kind() {
        let mut image = image(&[("ip=10.0.0.1", 9)]);
        let entity = vec![(Arc::from("client-id"), Some(Arc::from("c")))];
        image.entities.entry(entity).or_default().insert("consumer_byte_rate".into(), 1f64.to_bits());
        assert!(Limits::of(&image, "producer_byte_rate").is_empty());
        assert!(!Limits::of(&image, "consumer_byte_rate").is_empty());
    }
}
