//! What every long-running process of ours does alike.
//!
//! | module          | holds                                                                        |
//! |-----------------|------------------------------------------------------------------------------|
//! | [`accept`]      | what all listeners do alike: survive failing accepts                         |
//! | [`slots`]     | a bound on what is open at a time, overall and for each caller                 |
//! | [`comeback`]    | when those are to come back who found no room                                |
//! | [`settings`]  | configuration files, with every mistake in them reported at once               |
//! | [`tasks`]       | every task of the process, the signals that end it, and the drain            |
//! | [`telemetry`]   | logs, metrics, and how an error is written with its causes                   |
//! | [`health`]      | what works and what does not, and the HTTP endpoint that says so             |
//! | [`grpc`]        | gRPC, and how much one connection may take of a process                      |
//! | [`http`]        | HTTP/1.1 for supervisors and strangers: one small request at a time          |
//! | [`unix`]        | Unix sockets whose callers the kernel vouches for                            |
//! | [`place`]       | where a server is, and the way there: TCP, vsock or a Unix socket              |
//! | [`vsock`]       | sockets between a virtual machine and its host                               |
//! | [`seal`]        | secrets sealed to the key of an enclave                                        |
//! | [`tls`]         | TLS 1.3 between live X.509-SVIDs, and the validation of an X.509-SVID        |
//! | [`descriptors`] | how many connections the process may have open                               |
//! | [`memory`]      | keeping what is in memory out of dumps, debuggers and others' files          |

pub mod accept;
pub mod comeback;
pub mod descriptors;
pub mod grpc;
pub mod health;
pub mod http;
pub mod memory;
pub mod place;
pub mod seal;
pub mod settings;
pub mod slots;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod unix;
pub mod vsock;
