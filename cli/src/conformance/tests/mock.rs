//! A small Workload API, made to conform, with a switch for each way not to.

mod jwt;
mod material;
mod reflection;
mod service;
mod validator;
mod wit;
mod x509;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use claviger_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;

use super::{Address, ForeignDomain};
use material::Material;
use service::Strange;

/// The trust domain.
const OWN: &str = "example.org";
/// The caller's identities, the default first.
const IDS: [&str; 2] = ["spiffe://example.org/web", "spiffe://example.org/batch"];
/// A trust domain whose bundles are there to be wrong.
const THIRD: &str = "spiffe://third.test";

/// One way not to conform; [`Fault::Nobody`] is none, but a caller without an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    AlgNoneAccepted,
    AnyBundleAccepted,
    AudienceCaseIgnored,
    AudienceEmptyGranted,
    AudienceEmptyLate,
    AudienceMissingAccepted,
    AudienceMissingGranted,
    AudienceOtherAccepted,
    AuthorityIdWithPath,
    AuthorityInTwoBundles,
    AuthorityOfAnotherDomain,
    BundleFieldEmpty,
    BundleOfAnother,
    BundlesKeyedByName,
    BundlesOwnEmpty,
    BundlesWithoutOwn,
    ChainPem,
    ChainReversed,
    DefaultChanges,
    EarlyAccepted,
    EdDsaAccepted,
    ExpMissingAccepted,
    ExpiredAccepted,
    ExtraField,
    ExtraRpc,
    FederatedBundlePem,
    FirstMessageLate,
    HeaderExtraAccepted,
    HeaderJwkAccepted,
    HeaderMissingIsDenied,
    HeaderNotRequired,
    HeaderOfAnyCase,
    HeaderTwice,
    HintLong,
    HintsEqual,
    Hs256Accepted,
    IdFieldEmpty,
    IdFieldOther,
    IntermediateCannotSign,
    IntermediateIsNoCa,
    JsonAccepted,
    JwkKidTwice,
    JwkWithoutKid,
    JwkWithoutKty,
    JwksNoJson,
    JwksRefreshHintIsFraction,
    JwksSequenceIsText,
    JwksWithPrivateKey,
    JwksWithWitKey,
    JwksWithX509Key,
    JwksWithoutKeys,
    JwksWithoutOwn,
    JwtFirstAudienceOnly,
    JwtFirstIdentityOnly,
    JwtForNobodyGranted,
    JwtForNobodyNotFound,
    JwtHeaderExtra,
    JwtHintsEqual,
    JwtIdFieldOther,
    JwtPadded,
    JwtSecondIdentityDenied,
    JwtUnpublishedKey,
    KeyOfAnother,
    KeySec1,
    LeafCannotSign,
    LeafExpired,
    LeafForServersOnly,
    LeafIdWithoutPath,
    LeafIsCa,
    LeafKeyUsageNotCritical,
    LeafNamelessSanNotCritical,
    LeafSignsCertificates,
    LeafWithTwoUriSans,
    LeafWithoutExtendedKeyUsage,
    LeafWithoutKeyUsage,
    LeafWithoutUriSan,
    LongIdRefused,
    MalformedIdIsInternal,
    NoJwtProfile,
    NoReflection,
    NoSvids,
    NoX509Bundles,
    Nobody,
    NobodyIsNotFound,
    PathCaseIgnored,
    PathNormalised,
    RepeatsState,
    SecondStreamIncomplete,
    SignatureNotVerified,
    SubAccepted,
    TypAccepted,
    TypRefused,
    UnderscoreRefused,
    UnknownDomainAccepted,
    UnknownRpcIsInternal,
    ValidateUnauthenticated,
    ValidatesNothingGenuine,
    ValidatesWithoutClaims,
    WitAlgEdDsa,
    WitAud,
    WitCnfOfAnother,
    WitCnfWithoutAlg,
    WitEarly,
    WitExpired,
    WitForNobodyGranted,
    WitHalf,
    WitJwkKidTwice,
    WitJwkUseJwt,
    WitJwkWithoutKid,
    WitKeyNoJwk,
    WitSignedByAnother,
    WitSubOther,
    WitTypJwt,
    WitUnpublishedKid,
    WitWithoutCnf,
    WitWithoutKid,
}

/// The Workload API.
#[derive(Clone)]
pub(super) struct Mock {
    fault: Option<Fault>,
    material: Arc<Material>,
    /// How many streams of X.509-SVIDs were opened.
    opened: Arc<AtomicUsize>,
}

impl Mock {
    /// One with a fault, or with none; the suite's own trust domain is federated.
    pub(super) fn new(fault: Option<Fault>, foreign: &ForeignDomain) -> Self {
        let material = Arc::new(Material::new(fault, foreign));
        Self { fault, material, opened: Arc::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Serves it on a Unix socket while `looking` at it.
    pub(super) async fn serve<T>(self, looking: impl AsyncFnOnce(&Address) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let (mut server, reflection) = (Server::builder(), self.reflection());
        let server = server.add_service(self.service()).add_optional_service(reflection);
        let address = Address::Unix(path);
        tokio::select! {
            ended = server.serve_with_incoming(incoming) => panic!("{ended:?}"),
            seen = looking(&address) => seen,
        }
    }

    /// The same on a TCP port.
    pub(super) async fn serve_tcp<T>(self, looking: impl AsyncFnOnce(&Address) -> T) -> T {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (mut server, reflection) = (Server::builder(), self.reflection());
        let server = server.add_service(self.service()).add_optional_service(reflection);
        tokio::select! {
            ended = server.serve_with_incoming(TcpListenerStream::new(listener)) => {
                panic!("{ended:?}")
            }
            seen = looking(&address) => seen,
        }
    }

    fn service(&self) -> Strange {
        let strange = self.has(Fault::UnknownRpcIsInternal);
        Strange::new(SpiffeWorkloadApiServer::new(self.clone()), strange)
    }
}
