//! One-time keys: one handshake, and every attempt to use the key again.

use super::cast::id;
use super::mutual::{agreed, listen};
use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::failure::Failure;

/// The key exchange that a quantum computer does not undo.
pub(super) const GROUP: &str = "X25519MLKEM768";

/// A TLS alert in clear, fatal, `decrypt_error` (RFC 8446 §6): the same answer to whatever is wrong.
const ALERT: &str = "15030300020233";

/// Frontend asks for a key for backend, and they complete a TLS 1.3 handshake with it. Returns the
/// key's name.
pub(super) async fn meet(
    stage: &mut Stage,
    frontend: &mut Program,
    backend: &mut Program,
) -> Result<String, Failure> {
    let due = "frontend asks for a one-time key";
    let issue = async {
        let peer = id(backend.name())?;
        let purpose = "demo".parse().map_err(|error| Failure::because(&error))?;
        let report = frontend.order(&Order::Issue { peer, purpose }).await?;
        let Report::Issued(name) = report else {
            return Err(frontend.unexpected("a key", &report));
        };
        let line = format!("frontend got a one-time key for backend: {name}");
        Ok((name, line))
    };
    let name = stage.step(due, issue).await?;
    let handshake = async {
        let at = listen(backend).await?;
        let connect = Order::ConnectOnce(at);
        let (answered, called) =
            tokio::join!(backend.order(&Order::AcceptOnce), frontend.order(&connect));
        let group = agreed(frontend, &called?, backend, &answered?)?;
        if group != GROUP {
            return Err(Failure::failed(format_args!("the key exchange was {group}, not {GROUP}")));
        }
        Ok(((), format!("TLS 1.3 with that key, which authenticated both ends ({group})")))
    };
    stage.step("they meet over TLS 1.3 with that key", handshake).await?;
    Ok(name)
}

/// Frontend dials once more with the same key, in a fresh handshake that is sound but for that.
pub(super) async fn again(
    stage: &mut Stage,
    frontend: &mut Program,
    backend: &mut Program,
) -> Result<(), Failure> {
    let act = async {
        let connect = Order::ConnectOnce(listen(backend).await?);
        let (answered, called) =
            tokio::join!(backend.order(&Order::AcceptOnce), frontend.order(&connect));
        refused(backend, &answered?)?;
        refused(frontend, &called?)?;
        Ok(((), "the same key in a new handshake: refused".into()))
    };
    stage.step("the same key in a new handshake is refused", act).await
}

/// Somebody sends again what went over the wire, byte for byte.
pub(super) async fn replay(
    stage: &mut Stage,
    frontend: &mut Program,
    backend: &mut Program,
) -> Result<(), Failure> {
    let act = async {
        let replay = Order::Replay(listen(backend).await?);
        let (answered, called) =
            tokio::join!(backend.order(&Order::AcceptOnce), frontend.order(&replay));
        refused(backend, &answered?)?;
        let report = called?;
        if report != Report::HungUp(ALERT.to_owned()) {
            return Err(frontend.unexpected("an alert and nothing else", &report));
        }
        Ok(((), "the recorded ClientHello, byte for byte: refused".into()))
    };
    stage.step("the recorded ClientHello is refused", act).await
}

/// The broker said no to the acceptor, and the acceptor to its peer: it was no time limit, and no
/// lost connection.
fn refused(program: &Program, report: &Report) -> Result<(), Failure> {
    let Report::Refused(_) = report else {
        return Err(program.unexpected("a refusal", report));
    };
    Ok(())
}
