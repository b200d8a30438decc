//! s2n-tls, held to what [`Backend`] demands.

use std::fmt;

use async_trait::async_trait;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use s2n_tls::config::{self, Config};
use s2n_tls::connection::{Connection, ModifiedBuilder};
use s2n_tls::enums::{PskHmac, Version};
use s2n_tls::error::{Error, ErrorType};
use s2n_tls::psk;
use s2n_tls::security::Policy;
use s2n_tls_tokio::{TlsAcceptor, TlsConnector, TlsStream};
use tracing::trace;

use super::{Backend, ExportError, Handshake, HandshakeError, Io, Outcome, Role, Session};
use crate::profile::ProfileError;
use crate::route::Profile;

/// Bytes that are encrypted before the kernel is asked to take them: two of the longest records. A
/// connection has them only while something is sent.
const SEND: u32 = 34 << 10;

/// The back end by default.
#[derive(Clone)]
pub struct S2n {
    config: Config,
}

impl S2n {
    /// Sets the library up, with what is best.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if it was built without what we need.
    pub fn new() -> Result<Self, SetUpError> {
        Self::with_profile(Profile::default())
    }

    /// The same with the algorithms of `profile`.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if the profile has no one-time keys, or the library lacks what we need.
    pub fn with_profile(profile: Profile) -> Result<Self, SetUpError> {
        let policy = profile.s2n_policy()?;
        let build = || {
            let mut config = config::Builder::new();
            config
                .set_security_policy(&Policy::from_version(policy)?)?
                // No trust anchors: a certificate never authenticates anybody here. And none of
                // our own is loaded, because with one an unknown key would fall back to it.
                .with_system_certs(false)?
                // Blinding protects CBC suites, which TLS 1.3 has not. It would hold every failed
                // connection for up to 30 s; our acceptor evens out times by itself.
                .set_max_blinding_delay(0)?
                .set_send_buffer_size(SEND)?;
            config.build()
        };
        let config = build().map_err(|source| SetUpError::Library { policy, source })?;
        Ok(Self { config })
    }
}

impl fmt::Debug for S2n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S2n").finish_non_exhaustive()
    }
}

/// s2n-tls does not offer what we need.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The profile has no one-time keys.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// It was built without them.
    #[error("s2n-tls cannot be set up with the security policy `{policy}`")]
    Library {
        /// What it is called there.
        policy: &'static str,
        /// Why not.
        source: Error,
    },
}

#[async_trait]
impl Backend for S2n {
    async fn handshake(
        &self,
        role: Role,
        identity: WireIdentity,
        psk: &Psk,
        io: &mut dyn Io,
    ) -> Result<Box<dyn Handshake>, HandshakeError> {
        let psk = external(identity, psk).map_err(failure)?;
        let with_psk = ModifiedBuilder::new(self.config.clone(), |connection: &mut Connection| {
            // Records as long as they may be, and more than one of them in one read: of short ones, most
            // of the time goes into asking the kernel.
            connection.prefer_throughput()?.set_receive_buffering(true)?.append_psk(&psk)?;
            Ok(connection)
        });
        let stream = match role {
            // An empty name sends none: an observer learns nothing about whom we dial.
            Role::Client => TlsConnector::new(with_psk).connect("", io).await,
            Role::Server => TlsAcceptor::new(with_psk).accept(io).await,
        };
        let (connection, _borrowed) = stream.map_err(failure)?.into_parts();
        Ok(Box::new(Shaken(connection)))
    }
}

/// The key as s2n-tls takes it; it wipes its copies.
fn external(identity: WireIdentity, psk: &Psk) -> Result<psk::Psk, Error> {
    let mut external = psk::Builder::new()?;
    external
        .set_identity(identity.to_string().as_bytes())?
        .set_secret(psk.0.expose())?
        .set_hmac(PskHmac::SHA256)?;
    external.build()
}

fn failure(error: Error) -> HandshakeError {
    let kind = error.kind();
    if kind == ErrorType::Alert {
        HandshakeError::Refused
    } else if kind == ErrorType::IOError || kind == ErrorType::ConnectionClosed {
        HandshakeError::Io(error.into())
    } else {
        HandshakeError::Tls(Box::new(error))
    }
}

#[derive(Debug)]
struct Shaken(Connection);

impl Handshake for Shaken {
    fn outcome(&self) -> Result<Outcome, HandshakeError> {
        let Self(connection) = self;
        let read = || {
            let mut identity = vec![0; connection.negotiated_psk_identity_length()?];
            if !identity.is_empty() {
                connection.negotiated_psk_identity(&mut identity)?;
            }
            Ok(Outcome {
                tls13: connection.actual_protocol_version()? == Version::TLS13,
                identity,
                group: connection.selected_key_exchange_group().map(str::to_owned),
                suite: connection.cipher_suite()?.to_owned(),
            })
        };
        read().map_err(failure)
    }

    fn open(self: Box<Self>, io: Box<dyn Io>) -> Box<dyn Session> {
        Box::new(TlsStream::from_parts(self.0, io))
    }
}

impl Session for TlsStream<Box<dyn Io>> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError> {
        let connection: &Connection = self.as_ref();
        connection.tls_exporter(label, context, out).map_err(|error| ExportError(Box::new(error)))
    }

    fn rest(&mut self) {
        let connection: &mut Connection = self.as_mut();
        if let Err(error) = connection.release_buffers() {
            // Half a record is in them.
            trace!(%error, "buffers are not given back");
        }
    }
}
