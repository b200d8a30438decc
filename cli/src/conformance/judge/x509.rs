//! X.509-SVIDs (SPIFFE Workload API §5, X509-SVID).

use claviger_core::time::UnixTime;
use claviger_proto::workload::{X509svid, X509svidResponse};
use x509_parser::prelude::X509Certificate;

use super::super::certificate::{
    extended_key_usage, is_ca, key_usage, leads_to, names_are_critical, public_key, split, uris,
};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;
use super::super::spiffe_id;
use super::{bundles, hints, id};

/// The most SVIDs that are looked at; beyond that they show nothing new.
const MAX_SVIDS: usize = 100;

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let Some(message) = observed.first.x509.first.given() else { return };
    let seen = ensure(!message.svids.is_empty(), || "none".to_owned());
    notes.must(11, "a response has at least one SVID", seen);
    let given: Vec<_> = message.svids.iter().map(|svid| svid.hint.as_str()).collect();
    hints(notes, 11, "FetchX509SVID", &given);
    for svid in message.svids.iter().take(MAX_SVIDS) {
        Look { svid, observed, notes: &mut *notes }.judge();
    }
    federated(message, notes);
}

fn federated(message: &X509svidResponse, notes: &mut Notes) {
    let keys: Vec<_> = message.federated_bundles.keys().map(String::as_str).collect();
    super::keyed(notes, 12, "FetchX509SVID", &[], &keys);
    for (trust_domain, bundle) in &message.federated_bundles {
        bundles::x509(notes, 12, "FetchX509SVID", trust_domain, bundle);
    }
}

/// One SVID being looked at.
struct Look<'a> {
    svid: &'a X509svid,
    observed: &'a Observed,
    notes: &'a mut Notes,
}

impl Look<'_> {
    fn judge(&mut self) {
        let svid = self.svid;
        let context = format!("FetchX509SVID, `{}`", svid.spiffe_id);
        let filled = !svid.spiffe_id.is_empty()
            && ![&svid.x509_svid, &svid.x509_svid_key, &svid.bundle].iter().any(|f| f.is_empty());
        let seen = ensure(filled, || format!("{context}: something is left out"));
        self.notes.must(11, "every field but the hint is set", seen);
        if !svid.spiffe_id.is_empty() {
            id(self.notes, "FetchX509SVID", &svid.spiffe_id);
        }
        let chain = match split(&svid.x509_svid) {
            Ok(chain) => chain,
            Err(why) => {
                let seen = Err(format!("{context}: {why}"));
                return self.notes.must(11, "the chain is one of DER certificates", seen);
            }
        };
        let Some(leaf) = self.leaf(&chain, &context) else { return };
        self.names(leaf, &context);
        self.usages(leaf, &context);
        for other in chain.iter().filter(|other| other.as_raw() != leaf.as_raw()) {
            bundles::signing_certificate(self.notes, &context, other, None);
        }
        if !svid.bundle.is_empty() {
            let trust_domain = spiffe_id::parse(&svid.spiffe_id).ok().map(|id| id.trust_domain);
            let key = trust_domain.map(|td| format!("spiffe://{td}")).unwrap_or_default();
            bundles::x509(self.notes, 11, "FetchX509SVID", &key, &svid.bundle);
            self.path(leaf, &chain, &context);
        }
    }

    /// The certificate of the SVID's own key, which has to be the first.
    fn leaf<'c>(
        &mut self,
        chain: &'c [X509Certificate<'c>],
        context: &str,
    ) -> Option<&'c X509Certificate<'c>> {
        const KEY: &str = "the key is an unencrypted PKCS #8 key in DER";
        const LEAF: &str = "the first certificate is that of the key";

        let first = chain.first()?;
        if self.svid.x509_svid_key.is_empty() {
            return Some(first);
        }
        let key = match public_key(&self.svid.x509_svid_key) {
            Ok(Some(key)) => key,
            Ok(None) => {
                self.notes.must(11, KEY, Ok(()));
                return Some(first);
            }
            Err(why) => {
                self.notes.must(11, KEY, Err(format!("{context}: {why}")));
                return Some(first);
            }
        };
        self.notes.must(11, KEY, Ok(()));
        let is_of_key = |certificate: &&X509Certificate<'_>| {
            certificate.public_key().subject_public_key.data.as_ref() == key
        };
        let seen = ensure(is_of_key(&first), || match chain.iter().position(|c| is_of_key(&c)) {
            Some(at) => format!("{context}: it is certificate {}", at + 1),
            None => format!("{context}: none is"),
        });
        self.notes.must(11, LEAF, seen);
        Some(chain.iter().find(is_of_key).unwrap_or(first))
    }

    fn names(&mut self, leaf: &X509Certificate<'_>, context: &str) {
        let uris = uris(leaf);
        let [uri] = uris.as_slice() else {
            let seen = Err(format!("{context}: {} of them", uris.len()));
            return self.notes.must(24, "a leaf has exactly one URI SAN", seen);
        };
        self.notes.must(24, "a leaf has exactly one URI SAN", Ok(()));
        id(self.notes, "the leaf's URI SAN", uri);
        let has_path = spiffe_id::parse(uri).map_or(true, |id| !id.path.is_empty());
        let seen = ensure(has_path, || format!("{context}: the leaf's is `{uri}`"));
        self.notes.must(25, "a leaf's SPIFFE ID has a path", seen);
        let unnamed = leaf.subject().iter().next().is_none();
        let seen = ensure(!unnamed || names_are_critical(leaf) == Some(true), || {
            format!("{context}: the leaf has no subject, and its SAN is not critical")
        });
        self.notes.must(25, "the SAN of a leaf without a subject is critical", seen);
        if !self.svid.spiffe_id.is_empty() {
            let seen = ensure(*uri == self.svid.spiffe_id, || {
                format!("{context}: the certificate says `{uri}`")
            });
            self.notes.must(11, "`spiffe_id` is the SPIFFE ID of the certificate", seen);
        }
    }

    fn usages(&mut self, leaf: &X509Certificate<'_>, context: &str) {
        match key_usage(leaf) {
            None => {
                let seen = Err(format!("{context}: it has none"));
                self.notes.must(27, "a leaf has KeyUsage", seen);
            }
            Some((critical, usage)) => {
                self.notes.must(27, "a leaf has KeyUsage", Ok(()));
                let seen = ensure(critical, || format!("{context}: it is not"));
                self.notes.must(27, "KeyUsage is critical", seen);
                let seen =
                    ensure(usage.digital_signature(), || format!("{context}: it is not set"));
                self.notes.must(27, "a leaf may sign: digitalSignature", seen);
                let authority = usage.key_cert_sign() || usage.crl_sign();
                let seen = ensure(!authority, || format!("{context}: it is set"));
                self.notes.must(27, "a leaf has neither keyCertSign nor cRLSign", seen);
            }
        }
        let seen = ensure(!is_ca(leaf), || format!("{context}: its cA is true"));
        self.notes.must(30, "a leaf is no CA", seen);
        let (server, client) = extended_key_usage(leaf).unwrap_or_default();
        let seen = ensure(server && client, || {
            format!("{context}: serverAuth {server}, clientAuth {client}")
        });
        self.notes.should(28, "a leaf has ExtendedKeyUsage with serverAuth and clientAuth", seen);
    }

    fn path(&mut self, leaf: &X509Certificate<'_>, chain: &[X509Certificate<'_>], context: &str) {
        let now = self.observed.now;
        let others: Vec<_> = chain.iter().filter(|c| c.as_raw() != leaf.as_raw()).collect();
        self.follows(leaf, &others, &self.svid.bundle, (context, "its `bundle`"), now);
        let bundles = self.observed.first.x509_bundles.first.given();
        let id = spiffe_id::parse(&self.svid.spiffe_id).ok();
        let bundle = bundles.zip(id).and_then(|(message, id)| {
            message.bundles.get(&format!("spiffe://{}", id.trust_domain))
        });
        if let Some(bundle) = bundle {
            self.follows(leaf, &others, bundle, (context, "FetchX509Bundles"), now);
        }
    }

    fn follows(
        &mut self,
        leaf: &X509Certificate<'_>,
        others: &[&X509Certificate<'_>],
        bundle: &[u8],
        (context, source): (&str, &str),
        now: UnixTime,
    ) {
        // What is wrong with a bundle that cannot be read is told elsewhere.
        let Ok(authorities) = split(bundle) else { return };
        match leads_to(leaf, others, &authorities, now) {
            Some(path) => {
                let seen = path.map_err(|why| format!("{context}, with {source}: {why}"));
                self.notes.must(29, "the chain leads to an authority of the bundle", seen);
            }
            None => self.notes.unseen(29, "a signature of a kind that this suite cannot verify"),
        }
    }
}
