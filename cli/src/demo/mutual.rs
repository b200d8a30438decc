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
    let report = program.order(&Order::Listen).await?;
    let Report::Listening(at) = report else {
        return Err(program.unexpected("a port", &report));
    };
    Ok(at)
}

/// Checks that both ends saw each other, heard each other, and used the same key exchange.
pub(super) fn agreed(
    one: &Program,
    ones: &Report,
    other: &Program,
    others: &Report,
) -> Result<String, Failure> {
    let one_saw = met(one, ones, other)?;
    let other_saw = met(other, others, one)?;
    if one_saw.group.is_empty() || one_saw.group != other_saw.group {
        let (one, other) = (&one_saw.group, &other_saw.group);
        return Err(Failure::failed(format_args!(
            "the ends name different key exchanges: {one}, {other}"
        )));
    }
    Ok(one_saw.group.clone())
}

fn met<'r>(program: &Program, report: &'r Report, peer: &Program) -> Result<&'r Met, Failure> {
    let due = id(peer.name())?;
    if let Report::Met(met) = report
        && met.peer == due
        && met.heard == greeting(peer.name())
    {
        return Ok(met);
    }
    Err(program.unexpected(&format!("a talk with {due}"), report))
}
