//! The checks: what each is about, where the standard says it, and how a socket shows it.

use std::fmt;

use serde::Serialize;

use Document::{Bundle, Endpoint, Federation, JwtSvid, SpiffeId, WitSvid, WorkloadApi, X509Svid};
use Level::{Must, Should};
use Sight::{Never, Socket};

/// How binding a rule is (RFC 2119).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Whoever breaks it does not conform.
    Must,
    /// Whoever breaks it should know why.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "must",
            Self::Should => "should",
        })
    }
}

/// One rule of the SPIFFE standards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Stable, from 1 to 66.
    pub(crate) number: u8,
    /// Stable, for people and for scripts.
    pub(crate) name: &'static str,
    document: Document,
    section: &'static str,
    pub(crate) level: Level,
    pub(crate) sight: Sight,
}

/// Whether a Workload API socket can show that a rule is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    /// It does, by this.
    Socket(&'static str),
    /// It never does, because of this.
    Never(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Document {
    Endpoint,
    WorkloadApi,
    SpiffeId,
    X509Svid,
    JwtSvid,
    WitSvid,
    Bundle,
    Federation,
}

impl Check {
    /// The document and the section, as in `X509-SVID §4.3`.
    pub(crate) fn standard(&self) -> String {
        let document = match self.document {
            Endpoint => "SPIFFE Workload Endpoint",
            WorkloadApi => "SPIFFE Workload API",
            SpiffeId => "SPIFFE-ID",
            X509Svid => "X509-SVID",
            JwtSvid => "JWT-SVID",
            WitSvid => "WIT-SVID",
            Bundle => "SPIFFE Trust Domain and Bundle",
            Federation => "SPIFFE Federation",
        };
        format!("{document} §{}", self.section)
    }
}

const fn check(
    number: u8,
    name: &'static str,
    (document, section): (Document, &'static str),
    level: Level,
    sight: Sight,
) -> Check {
    Check { number, name, document, section, level, sight }
}

const CLIENT: Sight = Never("a rule for clients");
const VALIDATOR: Sight = Never("a rule for validators of WIT-SVIDs, and the API validates none");
const DOCUMENT: Sight = Never("a rule for bundle documents, and the API hands out none");
const ENDPOINT: Sight = Never("a rule for bundle endpoints and those who poll them");

/// All of them, in order.
#[rustfmt::skip]
pub(crate) const CATALOGUE: [Check; 66] = [
    check(1, "grpc", (Endpoint, "3"), Must, Socket("calls are answered in gRPC at the address given")),
    check(2, "security-header", (Endpoint, "3, §6"), Must, Socket("every RPC is called without the header and with seven wrong ones")),
    check(3, "no-client-authentication", (Endpoint, "3.1, §5"), Must, Socket("the calls are made without TLS and without credentials")),
    check(4, "endpoint-address", (Endpoint, "4"), Must, CLIENT),
    check(5, "status-codes", (Endpoint, "6"), Must, Socket("an RPC is called that does not exist; a caller without an identity sees how it is refused")),
    check(6, "not-extended", (Endpoint, "7"), Must, Socket("gRPC reflection must describe the standard's methods and fields, and no other")),
    check(7, "profiles", (WorkloadApi, "1"), Must, Socket("no RPC of the X.509 and JWT profiles is unimplemented")),
    check(8, "stream-messages", (WorkloadApi, "4.3"), Must, Socket("each stream is opened twice: its first message comes at once and is complete, an idle one is quiet")),
    check(9, "redacted-information", (WorkloadApi, "4.4"), Must, CLIENT),
    check(10, "mandatory-fields", (WorkloadApi, "4.5"), Should, Socket("audiences and tokens are left out or empty")),
    check(11, "x509-svid-response", (WorkloadApi, "5.2.1"), Must, Socket("every field of FetchX509SVID is decoded, keys are matched with certificates")),
    check(12, "x509-bundles", (WorkloadApi, "5.2.2"), Must, Socket("every bundle of FetchX509Bundles and of FetchX509SVID is decoded")),
    check(13, "jwt-svid-response", (WorkloadApi, "6.2.1"), Must, Socket("tokens are fetched for one audience, for two, for each identity, and for somebody else's")),
    check(14, "jwt-bundles", (WorkloadApi, "6.2.2"), Must, Socket("every JWK Set of FetchJWTBundles is decoded and searched for keys of other uses")),
    check(15, "jwt-validation", (WorkloadApi, "6.2.3, §6.3"), Must, Socket("ValidateJWTSVID is given genuine tokens, and forged and foreign ones")),
    check(16, "wit-profile", (WorkloadApi, "7"), Must, Socket("both WIT RPCs are served, or both unimplemented; each identity is asked for")),
    check(17, "wit-kids-and-hints", (WorkloadApi, "7.2.2, §8"), Must, Socket("WIT bundles are decoded, hints measured, the order compared between two streams")),
    check(18, "id-scheme", (SpiffeId, "2"), Must, Socket("IDs received are parsed; malformed ones are asked for, and with --foreign-domain put into tokens")),
    check(19, "id-trust-domain", (SpiffeId, "2.1"), Must, Socket("the same, with trust domains that are none and with unusual ones")),
    check(20, "id-path", (SpiffeId, "2.2"), Must, Socket("the same, with paths that are none")),
    check(21, "id-length", (SpiffeId, "2.3"), Must, Socket("IDs of 2048 bytes are asked for, and trust domains of 255 and 256")),
    check(22, "id-case", (SpiffeId, "2.4"), Must, Socket("one's own ID is asked for with the case of its path changed")),
    check(23, "signing-authority", (SpiffeId, "3.1"), Must, Socket("each trust domain seen has an authority, whose ID, if it has one, is of that domain")),
    check(24, "x509-one-uri-san", (X509Svid, "2"), Must, Socket("the leaf of each X509-SVID is decoded")),
    check(25, "x509-leaf-id", (X509Svid, "3.1"), Must, Socket("the leaf of each X509-SVID is decoded")),
    check(26, "x509-signing-certificate", (X509Svid, "3.2"), Must, Socket("intermediates and authorities are decoded")),
    check(27, "x509-key-usage", (X509Svid, "4.3"), Must, Socket("the leaf of each X509-SVID is decoded")),
    check(28, "x509-extended-key-usage", (X509Svid, "4.4"), Should, Socket("the leaf of each X509-SVID is decoded")),
    check(29, "x509-path-validation", (X509Svid, "5.1"), Must, Socket("each chain is followed to an authority of its bundle: names, signatures, times")),
    check(30, "x509-leaf-is-no-ca", (X509Svid, "5.2"), Must, Socket("the leaf of each X509-SVID is decoded; what validators refuse is not seen")),
    check(31, "bundle-x509-keys", (X509Svid, "6.1"), Must, DOCUMENT),
    check(32, "bundle-x5c", (X509Svid, "6.2"), Must, DOCUMENT),
    check(33, "jwt-compact", (JwtSvid, "5.1"), Must, Socket("tokens received are decoded; genuine ones are offered in JSON serialization")),
    check(34, "jwt-header", (JwtSvid, "2"), Must, Socket("tokens received are decoded; one is offered with the forger's key in its header")),
    check(35, "jwt-alg", (JwtSvid, "2.1"), Must, Socket("tokens received are decoded; forged ones with `none` and HS256 are offered")),
    check(36, "jwt-typ", (JwtSvid, "2.3"), Must, Socket("tokens received are decoded; with --foreign-domain, others are offered")),
    check(37, "jwt-sub", (JwtSvid, "3.1"), Must, Socket("tokens received are decoded; with --foreign-domain, others are offered")),
    check(38, "jwt-aud", (JwtSvid, "3.2"), Must, Socket("tokens received are decoded, and offered to other audiences")),
    check(39, "jwt-exp", (JwtSvid, "3.3"), Must, Socket("tokens received are decoded; with --foreign-domain, others are offered")),
    check(40, "jwt-bundle-keys", (JwtSvid, "6.1"), Must, Socket("every JWK of FetchJWTBundles is decoded")),
    check(41, "wit-kid", (WitSvid, "2.1"), Must, Socket("tokens received are decoded, and verified with the key that `kid` names")),
    check(42, "wit-typ", (WitSvid, "2.2"), Must, Socket("tokens received are decoded")),
    check(43, "wit-alg", (WitSvid, "2.3"), Must, Socket("tokens received are decoded")),
    check(44, "wit-sub", (WitSvid, "3.1"), Must, Socket("tokens received are decoded")),
    check(45, "wit-cnf", (WitSvid, "3.2"), Must, Socket("tokens received are decoded, and their keys compared with those handed out")),
    check(46, "wit-exp", (WitSvid, "3.4"), Must, Socket("tokens received are decoded")),
    check(47, "wit-nbf", (WitSvid, "3.5"), Must, Socket("tokens received are decoded; what validators refuse is not seen")),
    check(48, "wit-iat", (WitSvid, "3.6"), Must, VALIDATOR),
    check(49, "wit-iss", (WitSvid, "3.7"), Should, Socket("tokens received are decoded; an issuer with an https address is not called")),
    check(50, "wit-no-aud", (WitSvid, "3.8"), Must, Socket("tokens received are decoded")),
    check(51, "wit-possession", (WitSvid, "5"), Must, Never("a rule for those who present and accept WIT-SVIDs")),
    check(52, "wit-bundle-keys", (WitSvid, "6.1"), Must, Socket("every JWK of FetchWITBundles is decoded, and compared with the JWT bundles")),
    check(53, "bundle-sequence", (Bundle, "4.1.1"), Should, Socket("looked at where a JWK Set of the API carries one")),
    check(54, "bundle-refresh-hint", (Bundle, "4.1.2"), Should, Socket("looked at where a JWK Set of the API carries one")),
    check(55, "bundle-keys", (Bundle, "4.1.3"), Must, Socket("every JWK Set has `keys`; what is done about unknown ones is not seen")),
    check(56, "bundle-kty-and-use", (Bundle, "4.2"), Must, Socket("every JWK has `kty`; `use` may be left out in the sets of the API")),
    check(57, "bundle-map", (Bundle, "5.1.1"), Must, DOCUMENT),
    check(58, "published-before-use", (Federation, "4.1"), Must, Socket("tokens received are signed by keys of the bundles received")),
    check(59, "bundles-not-merged", (Federation, "4.2"), Must, Socket("no authority is in the bundles of two trust domains")),
    check(60, "federation-profiles", (Federation, "5"), Must, ENDPOINT),
    check(61, "federation-parameters", (Federation, "5.1"), Must, ENDPOINT),
    check(62, "federation-url", (Federation, "5.2.1.1, §5.2.2.1"), Must, ENDPOINT),
    check(63, "federation-get", (Federation, "5.2.1.3, §5.2.2.3"), Must, ENDPOINT),
    check(64, "federation-https-web", (Federation, "5.2.1.4"), Must, ENDPOINT),
    check(65, "federation-https-spiffe", (Federation, "5.2.2.2, §5.2.2.3, §5.2.2.4"), Must, ENDPOINT),
    check(66, "federation-polling", (Federation, "6.2"), Should, ENDPOINT),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_numbers_are_1_to_66_and_the_names_differ() {
        let numbers: Vec<_> = CATALOGUE.iter().map(|check| check.number).collect();
        assert_eq!(numbers, (1..=66).collect::<Vec<_>>());
        let names: HashSet<_> = CATALOGUE.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[test]
    fn the_page_about_it_lists_every_check() {
        let page = include_str!("../../../docs/conformance.md");
        for check in &CATALOGUE {
            let how = match check.sight {
                Socket(how) => how.to_owned(),
                Never(why) => format!("never: {why}"),
            };
            let Check { number, name, level, .. } = check;
            let row = format!("| {number} | `{name}` | {level} | {} | {how} |", check.standard());
            assert!(page.contains(&row), "docs/conformance.md lacks:\n{row}");
        }
    }
}
