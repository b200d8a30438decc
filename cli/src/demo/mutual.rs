//! Mutual TLS between X.509-SVIDs.

use super::cast::id;
use super::orders::{Call, Met, Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::failure::Failure;

/// What either end says, and must hear; the other end's name keeps it from being an echo.
pub(super) fn greeting(name: &str) -> String {
    format!("this is {name}")
}

/// Both verify each other's SPIFFE ID, and talk.
pub(super) async fn meet(
    stage: &mut Stage,
    frontend: &mut Program,
    backend: &mut Program,
) -> Result<(), Failure> {
    let act = async {
        let (client, server) = (id(frontend.name())?, id(backend.name())?);
        let at = listen(backend).await?;
        let (accept, connect) =
            (Order::AcceptMutual(client.clone()), Order::ConnectMutual(Call { at, server }));
        let (answered, called) = tokio::join!(backend.order(&accept), frontend.order(&connect));
        let group = agreed(frontend, &called?, backend, &answered?)?;
        Ok(((), format!("mutual TLS: each verified the other's SPIFFE ID ({group})")))
    };
    stage.step("they meet over mutual TLS", act).await
}

/// Where `program` listens.
pub(super) async fn listen(program: &mut Program) -> Result<std::net::SocketAddr, Failure> {
    match program.order(&Order::Listen).await? {
        Report::Listening(at) => Ok(at),
        report => Err(program.unexpected("a port", &report)),
    }
}

/// Checks that both ends saw each other, heard each other, and used the same key exchange.
pub(super) fn agreed(
    one: &Program,
    ones: &Report,
    other: &Program,
    others: &Report,
) -> Result<String, Failure> {
    for (program, report, peer) in [(one, ones, other), (other, others, one)] {
        let due = id(peer.name())?;
        match report {
            Report::Met(Met { peer: seen, heard, group })
                if *seen == due && *heard == greeting(peer.name()) && !group.is_empty() => {}
            report => return Err(program.unexpected(&format!("a talk with {due}"), report)),
        }
    }
    match (ones, others) {
        (Report::Met(one), Report::Met(other)) if one.group == other.group => Ok(one.group.clone()),
        _ => Err(Failure::failed("both ends met, but with different key exchanges")),
    }
}
