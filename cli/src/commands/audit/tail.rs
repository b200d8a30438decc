//! `claviger audit tail`.

use clap::Args;
use claviger_proto::claviger::admin::v1::ReadAuditRequest;
use claviger_runtime::tasks::ShutdownSignals;

use super::record::Line;
use crate::admin::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Go on with records as they are written, until interrupted
    #[arg(long, short)]
    follow: bool,

    /// How many of the newest records to begin with
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    lines: u64,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Tail {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
        tokio::select! {
            ended = self.print(console) => ended,
            _ = signals.next() => Ok(()),
        }
    }

    async fn print(&self, console: Console) -> Result<(), Failure> {
        const DOING: &str = "read the audit log";

        let server = Server::connect(&self.socket, console).await?;
        let request = ReadAuditRequest {
            follow: self.follow,
            last: self.lines,
            ..ReadAuditRequest::default()
        };
        let mut records = server.ask(DOING, server.admin().read_audit(request)).await?;
        loop {
            let next = records.message().await.map_err(|status| server.refused(DOING, &status))?;
            match next {
                Some(record) => console.answer(&Line::try_from(record)?)?,
                None => return Ok(()),
            }
        }
    }
}
