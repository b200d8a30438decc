//! What is asked for, and what that means for one caller.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use tonic::Status;

use super::resource::{Authorities, Content, Resource};
use super::validator::Validator;
use crate::config;
use crate::credentials::{Identity, ServedBundle, Snapshot};
use crate::streams::Answer;

/// The most names in one request. An Envoy asks for each on a stream of its own.
const MAX_NAMES: usize = 256;

/// The longest name: a SPIFFE ID's length.
const MAX_NAME: usize = 2_048;

/// What an Envoy asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// The resources; none stands for everything.
    names: BTreeSet<String>,
    validator: Validator,
}

/// What a snapshot means for an Envoy that asks for something.
pub(super) type Selection =
    Box<dyn Fn(&Snapshot, &Selectors, UnixTime) -> Answer<Vec<Resource>> + Send>;

impl Wanted {
    /// The resources `names`, for an Envoy with that `validator`.
    pub(super) fn new(names: Vec<String>, validator: Validator) -> Result<Self, Status> {
        if MAX_NAMES < names.len() || names.iter().any(|name| MAX_NAME < name.len()) {
            return Err(Status::invalid_argument(format!(
                "resource_names: at most {MAX_NAMES} names of at most {MAX_NAME} bytes"
            )));
        }
        let names = names.into_iter().filter(|name| !name.is_empty()).collect();
        Ok(Self { names, validator })
    }

    /// What each snapshot means for it.
    pub(super) fn compose(self, config: &Arc<config::Sds>) -> Selection {
        let config = Arc::clone(config);
        Box::new(move |snapshot, facts, now| {
            let identities = snapshot.admitted(facts, now);
            if identities.is_empty() {
                return Answer::Nobody;
            }
            Offer { snapshot, identities, now, validator: self.validator, config: &config }
                .answer(&self.names)
        })
    }
}

/// What there is for one caller.
struct Offer<'a> {
    snapshot: &'a Snapshot,
    /// At least one.
    identities: Vec<&'a Identity>,
    now: UnixTime,
    validator: Validator,
    config: &'a config::Sds,
}

/// What there is under one name.
enum Found {
    This(Content),
    Soon,
    /// There is such a resource, but not for this Envoy.
    NotFor(&'static str),
    Nothing,
}

impl Offer<'_> {
    fn answer(&self, names: &BTreeSet<String>) -> Answer<Vec<Resource>> {
        if names.is_empty() {
            return self.everything();
        }
        let (mut resources, mut unknown, mut soon) = (Vec::new(), Vec::new(), false);
        for name in names {
            match self.find(name) {
                Found::This(content) => resources.push(Resource { name: name.clone(), content }),
                Found::Soon => soon = true,
                Found::NotFor(why) => {
                    return Answer::Refused(Status::invalid_argument(format!("`{name}`: {why}")));
                }
                Found::Nothing => unknown.push(name.as_str()),
            }
        }
        match unknown.as_slice() {
            // One after the other would make an Envoy think that the others are gone.
            [] if soon => Answer::Soon,
            [] => Answer::Message(resources),
            [first, rest @ ..] => Answer::Refused(Status::invalid_argument(format!(
                "workload is not authorized for the requested identities: `{first}` and {} more",
                rest.len()
            ))),
        }
    }

    fn everything(&self) -> Answer<Vec<Resource>> {
        let mut names: Vec<String> =
            self.bundles().map(|served| served.bundle.trust_domain.id().to_string()).collect();
        let count = names.len();
        for identity in &self.identities {
            let name = identity.entry.spiffe_id.to_string();
            let is_there = identity.x509.want(self.now).is_some();
            if is_there && !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() == count { Answer::Soon } else { self.answer(&names.into_iter().collect()) }
    }

    fn find(&self, name: &str) -> Found {
        let config = self.config;
        if name == config.default_svid_name {
            return self.svid(self.identities.first().copied());
        }
        if name == config.default_bundle_name {
            return self.bundle(self.snapshot.bundle());
        }
        if name == config.default_all_bundles_name {
            return self.all_bundles();
        }
        let Ok(id) = name.parse::<SpiffeId>() else { return Found::Nothing };
        if id.is_trust_domain() {
            let mut bundles = self.bundles();
            let named = bundles.find(|served| served.bundle.trust_domain == *id.trust_domain());
            return named.map_or(Found::Nothing, |served| self.bundle(served));
        }
        // Two entries may give the same identity; the first whose SVID is there will do.
        let named = || self.identities.iter().filter(|identity| identity.entry.spiffe_id == id);
        match named().find(|identity| identity.x509.want(self.now).is_some()) {
            Some(identity) => self.svid(Some(identity)),
            None if named().next().is_some() => Found::Soon,
            None => Found::Nothing,
        }
    }

    fn svid(&self, identity: Option<&Identity>) -> Found {
        let svid = identity.and_then(|identity| identity.x509.want(self.now));
        svid.map_or(Found::Soon, |svid| Found::This(Content::Svid(Arc::clone(svid))))
    }

    fn bundle(&self, served: &ServedBundle) -> Found {
        Found::This(Content::Bundles(self.validator, vec![served.into()]))
    }

    fn all_bundles(&self) -> Found {
        match self.validator {
            Validator::Spiffe => {
                let bundles = self.bundles().map(Authorities::from);
                let bundles = bundles.filter(|bundle| !bundle.is_empty()).collect();
                Found::This(Content::Bundles(self.validator, bundles))
            }
            Validator::Plain => Found::NotFor(
                "only Envoy's SPIFFE validator keeps trust domains apart; let it be used, or ask \
                 for the bundles one by one",
            ),
        }
    }

    /// The own trust domain's, then those of the domains that the caller federates with.
    fn bundles(&self) -> impl Iterator<Item = &ServedBundle> {
        let federated = self.snapshot.federated_with(&self.identities);
        std::iter::once(self.snapshot.bundle()).chain(federated.into_values().map(|arc| &**arc))
    }
}
