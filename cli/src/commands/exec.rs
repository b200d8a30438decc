//! `claviger exec`.

use std::sync::Arc;

use clap::Args;
use claviger_core::time::SystemClock;
use claviger_shim::run::Shim;

use crate::exec;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;

/// Runs a program with its routes around it
#[derive(Args, Debug)]
#[command(
    long_about = "Opens routes, runs a program that knows nothing of them, and ends when it \
    does, with its exit code: for jobs. Only the program, and what comes from it, may use the routes, \
    unless `callers` says otherwise. With the port 0 a free one is chosen; the program finds each \
    route's address in the environment variable CLAVIGER_ROUTE_NAME.\n\n\
    Nothing is run if a route cannot be had. Exit codes: the program's own, or 128 and the number of \
    the signal that ended it; 125 if there is no way for a route, 126 if the program cannot be run, 127 \
    if it is not there.\n\n\
    Example:\n  claviger exec --route name=db,listen=127.0.0.1:5432,to=db.internal:8443,\\\n\
    peer=spiffe://example.org/db,mode=psk,purpose=query \\\n    \
    -- psql -h 127.0.0.1 -c 'select 1'"
)]
pub(crate) struct Command {
    #[command(flatten)]
    exec: exec::Exec,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Command {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { exec, socket } = self;
        let config = exec.config()?;
        let socket = socket.path_or(config.socket.as_deref());
        exec.run(config, async |config, tasks| {
            let shim = Shim::start(config, socket, Arc::new(SystemClock), tasks).await;
            shim.map_err(|error| Failure::because(&error))
        })
        .await
    }
}
