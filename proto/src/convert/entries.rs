//! Registration entries: whole, as a request to create or to change one, and under a mask.

use std::collections::BTreeSet;

use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::TrustDomain;
use claviger_core::svid::{DnsName, SvidTtl};
use claviger_core::time::UnixTime;

use super::{FieldError, Problem, ids, selectors, times};
use crate::spire::types::entry::AdditionalAttributes;
use crate::spire::types::{self, EntryMask};

impl TryFrom<types::Entry> for Entry {
    type Error = FieldError;

    /// Checks each field by itself; the rules between fields are [`Entry::check`]'s.
    fn try_from(wire: types::Entry) -> Result<Self, FieldError> {
        let attributes = wire.additional_attributes.unwrap_or_default();
        let at = |field| move |problem| FieldError::new(field, problem);
        Ok(Self {
            id: wire.id.parse().map_err(|error| FieldError::new("id", error))?,
            spiffe_id: ids::required(wire.spiffe_id, "spiffe_id")?,
            parent_id: ids::required(wire.parent_id, "parent_id")?,
            selectors: selectors::set(wire.selectors, "selectors", Self::MAX_SELECTORS)?,
            x509_svid_ttl: ttl(wire.x509_svid_ttl).map_err(at("x509_svid_ttl"))?,
            jwt_svid_ttl: ttl(wire.jwt_svid_ttl).map_err(at("jwt_svid_ttl"))?,
            federates_with: trust_domains(&wire.federates_with)?,
            admin: wire.admin,
            downstream: wire.downstream,
            expires_at: times::end(wire.expires_at).map_err(at("expires_at"))?,
            dns_names: dns_names(&wire.dns_names)?,
            revision: u64::try_from(wire.revision_number)
                .map_err(|_negative| Problem::Negative(wire.revision_number))
                .map_err(at("revision_number"))?,
            store_svid: wire.store_svid,
            hint: wire.hint,
            created_at: times::time(wire.created_at).map_err(at("created_at"))?,
            x509_on_demand: attributes.disable_x509_svid_prefetch,
            jwt_jti: attributes.jwt_svid_include_jti,
        })
    }
}

impl From<&Entry> for types::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            id: entry.id.to_string(),
            spiffe_id: Some((&entry.spiffe_id).into()),
            parent_id: Some((&entry.parent_id).into()),
            selectors: selectors::list(&entry.selectors),
            x509_svid_ttl: ttl_to_wire(entry.x509_svid_ttl),
            federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
            admin: entry.admin,
            downstream: entry.downstream,
            expires_at: times::end_to_wire(entry.expires_at),
            dns_names: entry.dns_names.iter().map(ToString::to_string).collect(),
            revision_number: i64::try_from(entry.revision).unwrap_or(i64::MAX),
            store_svid: entry.store_svid,
            jwt_svid_ttl: ttl_to_wire(entry.jwt_svid_ttl),
            hint: entry.hint.clone(),
            created_at: times::to_wire(entry.created_at),
            additional_attributes: attributes(entry),
        }
    }
}

/// The entry that `wire` asks to create at `now`. Its author may name it; `fresh_id` does where
/// they do not. Revision and time of creation are the server's to set, whatever `wire` says.
///
/// # Errors
///
/// [`FieldError`] if a field is malformed.
pub fn create(
    wire: types::Entry,
    fresh_id: impl FnOnce() -> EntryId,
    now: UnixTime,
) -> Result<Entry, FieldError> {
    let id = if wire.id.is_empty() { fresh_id().into() } else { wire.id };
    types::Entry { id, revision_number: 0, created_at: times::to_wire(now), ..wire }.try_into()
}

/// `current` with those fields of `wire` that `mask` selects, or all of them without a mask, as its
/// next revision. The name, revision and time of creation are not for a client to change.
///
/// # Errors
///
/// [`FieldError`] if a selected field is malformed.
pub fn update(
    current: &Entry,
    wire: types::Entry,
    mask: Option<&EntryMask>,
) -> Result<Entry, FieldError> {
    let mut merged = types::Entry::from(current);
    let mask = EntryMask { revision_number: false, created_at: false, ..*mask.unwrap_or(&ALL) };
    copy(wire, &mut merged, &mask);
    Ok(Entry { revision: current.revision.saturating_add(1), ..merged.try_into()? })
}

/// `entry` with the fields that `mask` selects, or all of them without a mask. The name always
/// stays.
#[must_use]
pub fn select(entry: types::Entry, mask: Option<&EntryMask>) -> types::Entry {
    let Some(mask) = mask else { return entry };
    let mut selected = types::Entry { id: entry.id.clone(), ..types::Entry::default() };
    copy(entry, &mut selected, mask);
    selected
}

const ALL: EntryMask = EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

/// Moves the fields that `mask` selects. Taking both apart makes a new field a compile error here.
fn copy(from: types::Entry, to: &mut types::Entry, mask: &EntryMask) {
    macro_rules! move_selected {
        ($($field:ident),+) => {{
            let types::Entry { id: _, $($field),+ } = from;
            $(if mask.$field { to.$field = $field; })+
        }};
    }
    move_selected!(
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        revision_number,
        store_svid,
        jwt_svid_ttl,
        hint,
        created_at,
        additional_attributes
    );
}

/// Unset if none is, as with SPIRE.
fn attributes(entry: &Entry) -> Option<AdditionalAttributes> {
    let attributes = AdditionalAttributes {
        disable_x509_svid_prefetch: entry.x509_on_demand,
        jwt_svid_include_jti: entry.jwt_jti,
    };
    (attributes != AdditionalAttributes::default()).then_some(attributes)
}

fn ttl(wire: i32) -> Result<Option<SvidTtl>, Problem> {
    match u32::try_from(wire) {
        Ok(0) => Ok(None),
        Ok(secs) => Ok(Some(secs.try_into()?)),
        Err(_negative) => Err(Problem::Negative(wire.into())),
    }
}

/// A lifetime is at most thirty days, so it always fits.
fn ttl_to_wire(ttl: Option<SvidTtl>) -> i32 {
    ttl.map_or(0, |ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX))
}

fn trust_domains(wire: &[String]) -> Result<BTreeSet<TrustDomain>, FieldError> {
    let mut domains = BTreeSet::new();
    each("federates_with", wire, Entry::MAX_FEDERATES_WITH, |text| {
        let domain = ids::trust_domain(text)?;
        if domains.insert(domain) { Ok(()) } else { Err(Problem::Repeated(text.to_owned())) }
    })?;
    Ok(domains)
}

fn dns_names(wire: &[String]) -> Result<Vec<DnsName>, FieldError> {
    let mut names = Vec::with_capacity(wire.len().min(Entry::MAX_DNS_NAMES));
    each("dns_names", wire, Entry::MAX_DNS_NAMES, |text| {
        let name: DnsName = text.parse()?;
        if names.contains(&name) {
            return Err(Problem::Repeated(name.to_string()));
        }
        names.push(name);
        Ok(())
    })?;
    Ok(names)
}

/// Hands each of at most `max` elements of `field` to `take`, and says where it failed.
fn each(
    field: &'static str,
    wire: &[String],
    max: usize,
    mut take: impl FnMut(&str) -> Result<(), Problem>,
) -> Result<(), FieldError> {
    if max < wire.len() {
        return Err(FieldError::new(field, Problem::TooMany { count: wire.len(), max }));
    }
    for (at, text) in wire.iter().enumerate() {
        take(text).map_err(|problem| FieldError::new(format!("{field}[{at}]"), problem))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
