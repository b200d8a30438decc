//! `claviger wit mint`.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_core::jose::PublicKey;
use claviger_proto::spire::server::svid::v1::MintWitsvidRequest;
use serde::Serialize;

use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::{files, times};

/// The largest file that is read as a key, in bytes: RSA with 8192 bits has 1,476.
const MAX_KEY: u64 = 4 << 10;

#[derive(Args, Debug)]
pub(crate) struct Mint {
    /// Whose token it is
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: SpiffeId,

    /// The public key it is bound to, in PEM; `-` for standard input
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,

    /// How long it lasts at most; the server's default if not given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(1..))]
    ttl: Option<i32>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Mint {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        const DOING: &str = "mint a WIT-SVID";

        let public_key = read_key(&self.public_key)?.spki().to_vec();
        let server = Server::connect(&self.socket, console).await?;
        let id = Some((&self.spiffe_id).into());
        let request = MintWitsvidRequest { id, public_key, ttl: self.ttl.unwrap_or_default() };
        let minted = server.ask(DOING, server.svids().mint_witsvid(request)).await?;
        let svid = minted.svid.ok_or_else(|| Failure::failed("the server sent no WIT-SVID"))?;
        let (id, end) = (&self.spiffe_id, times::show(svid.expires_at));
        console::remark(format_args!("{id} until {end}, for whoever has the key"));
        let (spiffe_id, expires_at) = (self.spiffe_id, svid.expires_at);
        console.answer(&Token { spiffe_id, expires_at, token: svid.token })
    }
}

fn read_key(path: &Path) -> Result<PublicKey, Failure> {
    let shown = path.display();
    let pem = ::pem::parse(files::read(path, MAX_KEY)?).ok();
    let pem = pem.filter(|pem| pem.tag() == "PUBLIC KEY").ok_or_else(|| {
        Failure::usage(format_args!("`{shown}` holds no `PUBLIC KEY` in PEM"))
            .try_this("openssl pkey -in key.pem -pubout")
    })?;
    PublicKey::from_spki(pem.contents())
        .map_err(|error| Failure::usage(format_args!("`{shown}` cannot be used: {error}")))
}

/// `{"spiffe_id":"spiffe://…","expires_at":1800000000,"token":"…"}`, or the token alone.
#[derive(Serialize)]
struct Token {
    spiffe_id: SpiffeId,
    expires_at: i64,
    token: String,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The key of RFC 7515 §A.3.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
        6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn a_key_is_read_and_anything_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pub");
        fs::write(&path, PEM).unwrap();
        assert_eq!(read_key(&path).unwrap().spki().len(), 91);
        for (text, why) in [
            ("junk", "holds no `PUBLIC KEY`"),
            (&PEM.replace("PUBLIC", "PRIVATE"), "holds no `PUBLIC KEY`"),
            (&PEM.replace("f83O", "AAAA"), "cannot be used"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read_key(&path).unwrap_err().to_string();
            assert!(error.contains("key.pub") && error.contains(why), "{error}");
        }
    }
}
