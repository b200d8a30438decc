//! An open connection of rustls, and the names of what it negotiated.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::{CommonState, NamedGroup};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::backend::{ExportError, Io, Session};
use crate::io::Flights;

/// An open connection of rustls.
pub(super) struct Open<S>(pub(super) TlsStream<Flights<S>>);

impl<S> fmt::Debug for Open<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Open").finish_non_exhaustive()
    }
}

impl<S: Io> Session for Open<S> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError> {
        let exported = match &self.0 {
            TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material(out, label, Some(context))
            }
            TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material(out, label, Some(context))
            }
        };
        exported.map(|_filled| ()).map_err(|error| ExportError(Box::new(error)))
    }
}

impl<S: Io> AsyncRead for Open<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: Io> AsyncWrite for Open<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The names of the key exchange and the suite in IANA's registries, as the other stack has them.
pub(super) fn negotiated(state: &CommonState) -> Option<(String, String)> {
    let group = state.negotiated_key_exchange_group()?.name();
    let suite = state.negotiated_cipher_suite()?.suite();
    // rustls has the version in the names of suites of TLS 1.3.
    Some((name(group), format!("{suite:?}").replacen("TLS13_", "TLS_", 1)))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "others are called what rustls calls them")]
fn name(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => "x25519".to_owned(),
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768".to_owned(),
        group => format!("{group:?}"),
    }
}
