//! Decisions, as a server's audit log has them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use clap::Args;
use claviger_core::audit::{Head, Link, Verifier};
use claviger_core::grant::PolicyDigest;
use claviger_policy::replay::Past;
use claviger_policy::{PolicySet, Source, source};
use claviger_proto::claviger::admin::v1::{AuditRecord, GetPoliciesRequest, ReadAuditRequest};
use claviger_runtime::telemetry::Chain;
use tonic::{Code, Streaming};

use crate::admin::Server;
use crate::failure::Failure;

/// Which part of the log.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Begins with this record; with the first there is if not given
    #[arg(long, value_name = "RECORD", conflicts_with = "last")]
    from: Option<u64>,

    /// Only so many of the newest records
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
}

/// Reads decisions, and checks that the log is whole on the way.
#[derive(Debug)]
pub(crate) struct Decisions<'a> {
    server: &'a Server,
    records: Streaming<AuditRecord>,
    verifier: Option<Verifier>,
}

const DOING: &str = "read the audit log";

impl<'a> Decisions<'a> {
    /// Begins to read.
    pub(crate) async fn read(server: &'a Server, part: Part) -> Result<Self, Failure> {
        let request = ReadAuditRequest {
            from_sequence: part.from.unwrap_or_default(),
            last: part.last.unwrap_or_default(),
            ..ReadAuditRequest::default()
        };
        let records = server.ask(DOING, server.admin().read_audit(request)).await?;
        Ok(Self { server, records, verifier: None })
    }

    /// The next decision, and the number of its record.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Past)>, Failure> {
        loop {
            let next = self.records.message().await;
            let next = next.map_err(|status| self.server.refused(DOING, &status))?;
            let Some(record) = next else { return Ok(None) };
            self.check(&record)?;
            let past = Past::on_record(&record.body).map_err(|error| {
                Failure::failed(format_args!("record {} cannot be read: {error}", record.sequence))
                    .try_this("if the server is newer than this program, update it")
            })?;
            if let Some(past) = past {
                return Ok(Some((record.sequence, past)));
            }
        }
    }

    fn check(&mut self, record: &AuditRecord) -> Result<(), Failure> {
        let damaged =
            || Failure::failed(format_args!("the server sent record {} damaged", record.sequence));
        let link =
            |bytes: &[u8]| bytes.try_into().map(Link::from_bytes).map_err(|_length| damaged());
        let verifier = match &mut self.verifier {
            Some(verifier) => verifier,
            none => {
                let sequence = record.sequence.checked_sub(1).ok_or_else(damaged)?;
                let before = Head { sequence, link: link(&record.previous)? };
                none.insert(Verifier::after(before))
            }
        };
        let checked = verifier.push(record.sequence, &record.body, link(&record.hash)?);
        checked.map_err(|broken| Failure::because(&broken).within("the audit log was changed"))
    }
}

/// Policies that are or were in force, by their digests.
#[derive(Debug)]
pub(crate) struct PolicySets<'a> {
    server: &'a Server,
    found: HashMap<PolicyDigest, Option<PolicySet>>,
}

impl<'a> PolicySets<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, found: HashMap::new() }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Those with this digest; `None` if the server has them no more, or if they were made for another
    /// version, whose policies could speak of other things.
    pub(crate) async fn with(
        &mut self,
        digest: PolicyDigest,
    ) -> Result<Option<&PolicySet>, Failure> {
        if let Entry::Vacant(vacant) = self.found.entry(digest) {
            vacant.insert(fetch(self.server, digest).await?);
        }
        Ok(self.found.get(&digest).and_then(Option::as_ref))
    }
}

async fn fetch(server: &Server, digest: PolicyDigest) -> Result<Option<PolicySet>, Failure> {
    let doing = format!("get the policies {digest}");
    let request = GetPoliciesRequest { digest: digest.to_string() };
    let answer = match server.control().get_policies(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        Err(status) => return Err(server.refused(&doing, &status)),
    };
    let files: Vec<source::File> = serde_json::from_slice(&answer.policies).map_err(|error| {
        Failure::failed(format_args!("cannot {doing}: the server sent something else: {error}"))
    })?;
    let set = PolicySet::compile(Source::new(files))
        .map_err(|error| Failure::failed(format_args!("cannot {doing}: {}", Chain(&error))))?;
    Ok((set.digest() == digest).then_some(set))
}
