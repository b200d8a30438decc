//! Decisions, as a server's audit log has them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use clap::Args;
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

/// Reads decisions, and checks that no record is left out on the way.
#[derive(Debug)]
pub(crate) struct Decisions<'a> {
    server: &'a Server,
    records: Streaming<AuditRecord>,
    /// The number of the last record.
    last: Option<u64>,
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
        Ok(Self { server, records, last: None })
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
        let last = self.last.replace(record.sequence);
        if last.is_none_or(|last| last.checked_add(1) == Some(record.sequence)) {
            return Ok(());
        }
        let found = record.sequence;
        Err(Failure::failed(format_args!("records are missing before record {found}"))
            .try_this("see what is wrong with the log: `claviger audit verify`"))
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
