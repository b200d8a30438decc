//! What happens to entries when a bundle goes.

use claviger_core::entry::EntryId;
use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;

use super::super::{PAGE, Registry};
use super::and_delete;
use crate::journal::CommitError;

/// What becomes of entries that federate with a trust domain whose bundle is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dissociation {
    /// They prevent it.
    Restrict,
    /// They stay, and no longer federate with it.
    Dissociate,
    /// They are deleted too.
    Delete,
}

impl Registry {
    /// Deletes the bundle of `trust_domain`. With many entries to change, they go page by page and
    /// the bundle last, so that whoever is interrupted can ask again.
    ///
    /// # Errors
    ///
    /// [`DeleteBundleError`]; the bundle is still there.
    pub async fn delete_bundle(
        &self,
        trust_domain: TrustDomain,
        mode: Dissociation,
        requester: &Requester,
    ) -> Result<(), DeleteBundleError> {
        let (registry, requester) = (self.clone(), requester.clone());
        self.see_through(
            async move { registry.remove_bundle(&trust_domain, mode, &requester).await },
        )
        .await?
    }

    async fn remove_bundle(
        &self,
        trust_domain: &TrustDomain,
        mode: Dissociation,
        requester: &Requester,
    ) -> Result<(), DeleteBundleError> {
        let mut writing = self.0.writing.lock().await;
        let mut federated = (**self.0.federated.borrow()).clone();
        if federated.get(trust_domain).is_none() {
            return Err(DeleteBundleError::Unknown(trust_domain.clone()));
        }
        let concerned = self.federating_with(trust_domain);
        if mode == Dissociation::Restrict && !concerned.is_empty() {
            let (trust_domain, entries) = (trust_domain.clone(), concerned.len());
            return Err(DeleteBundleError::InUse { trust_domain, entries });
        }

        let mut pages = concerned.chunks(PAGE).peekable();
        loop {
            let page = pages.next().unwrap_or_default();
            let is_last = pages.peek().is_none();
            let planned = {
                let state = self.read();
                let mut draft = self.draft(&state, requester);
                page.iter().for_each(|id| match mode {
                    Dissociation::Delete => drop(draft.delete(id)),
                    Dissociation::Restrict | Dissociation::Dissociate => {
                        draft.dissociate(id, trust_domain);
                    }
                });
                draft.finish(state.log.head())
            };
            let mut commit = planned.to_commit();
            if is_last {
                and_delete(&mut commit, trust_domain, requester);
            }
            self.commit(&mut writing, commit).await?;
            self.apply(planned);
            if is_last {
                break;
            }
        }
        federated.remove(trust_domain);
        self.publish(federated);
        Ok(())
    }

    /// The entries that federate with `trust_domain`.
    fn federating_with(&self, trust_domain: &TrustDomain) -> Vec<EntryId> {
        let name = trust_domain.as_str();
        let federates = |entry: &claviger_proto::spire::types::Entry| {
            entry.federates_with.iter().any(|with| with == name)
        };
        let found = self.entries(None, usize::MAX, federates);
        found.into_iter().filter_map(|entry| entry.id.parse().ok()).collect()
    }
}

/// Why a bundle was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteBundleError {
    /// There is none.
    #[error("there is no bundle of `{0}`")]
    Unknown(TrustDomain),
    /// Entries need it.
    #[error(
        "{entries} {} with `{trust_domain}`; delete the bundle with mode DISSOCIATE to keep them \
         without it, or with mode DELETE to delete them too",
        if *entries == 1 { "entry federates" } else { "entries federate" }
    )]
    InUse {
        /// Whose bundle it is.
        trust_domain: TrustDomain,
        /// How many entries federate with it.
        entries: usize,
    },
    /// It could not be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
