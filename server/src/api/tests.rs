//! The services over real sockets: gRPC on the admin socket, and on loopback under TLS.

mod admins;
mod agents;
mod announcements;
mod appraisals;
mod bundles;
mod callers;
mod decisions;
mod entries;
mod flaws;
mod gateways;
mod keys;
mod load;
mod operator;
mod policies;
mod psks;
mod standings;
mod svids;
mod sync;
mod tokens;
mod world;
