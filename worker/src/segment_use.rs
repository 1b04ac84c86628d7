//! Which segments of large objects other manifests still need.
//!
//! # The rule
//! A segment is removed from the local cluster only if no manifest of the account but the one that is being archived names it: no
//! static large object, wherever its manifest lies (hidden containers of old versions too), and no dynamic one whose prefix it is under. All
//! replicas of all containers of the account are listed for that, after the archiving of the object was decided; where more than half of a
//! container's replicas do not answer nothing is removed.
//!
//! Static manifests are told by their rows, which name the ETag of the whole; dynamic ones are looked for among objects without
//! content, which is what every known client writes. What the look cannot see is in `docs/decisions`.
//!
//! One look costs a listing of the account, so objects that wait for one are answered together, and manifests that were read before are not
//! read again: their content follows from their ETag.

mod known;
mod look;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::reason::Failure;
use crate::swift::container_server::ContainerServers;
use crate::swift::local_objects::LocalObjects;
use crate::swift::topology::SwiftTopology;
use crate::transfer::CarriedSegment;
use known::Known;
use look::{Look, Question};

/// What is known of accounts is kept for this many: each may take 40 MiB.
const MAX_ACCOUNTS: usize = 4;

/// Answers for all accounts. Clones share everything.
#[derive(Clone, Debug)]
pub struct SegmentUse {
    look: Look,
    accounts: Arc<Mutex<HashMap<String, Arc<AccountUse>>>>,
}

/// What waits for the next look at one account.
#[derive(Debug, Default)]
struct AccountUse {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever looks; it has what earlier looks learned.
    turn: tokio::sync::Mutex<Known>,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    answer: oneshot::Sender<Result<Vec<bool>, Failure>>,
}

impl SegmentUse {
    /// Looks by means of these.
    #[must_use]
    pub fn new(topology: SwiftTopology, servers: ContainerServers, local: LocalObjects) -> Self {
        Self { look: Look::new(topology, servers, local), accounts: Arc::default() }
    }

    /// Asks container servers.
    pub(crate) fn servers(&self) -> &ContainerServers {
        self.look.servers()
    }

    /// Tells for each of `segments` whether a manifest of `account` needs it, by a look that begins after this call. `own` does not count:
    /// container, name and ETag of the manifest that is being archived.
    ///
    /// # Errors
    /// When not everything could be seen.
    ///
    /// # Cancel safety
    /// Cancel-safe. Others whose question was in the same look fail, and ask again.
    pub(crate) async fn needed(
        &self,
        account: &str,
        own: (&str, &str, &str),
        segments: &[CarriedSegment],
    ) -> Result<Vec<bool>, Failure> {
        let account_use = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(account) {
                accounts.retain(|_, known| Arc::strong_count(known) > 1);
            }
            Arc::clone(accounts.entry(account.to_owned()).or_default())
        };
        let (answer, mut answered) = oneshot::channel();
        let question = Question {
            container: own.0.to_owned(),
            object: own.1.to_owned(),
            etag: own.2.to_owned(),
            segments: segments
                .iter()
                .map(|segment| (segment.container.clone(), segment.object.clone()))
                .collect(),
        };
        account_use.lock().push(Waiting { question, answer });
        let mut known = account_use.turn.lock().await;
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        let batch: Vec<Waiting> = std::mem::take(&mut *account_use.lock());
        let (questions, answers): (Vec<Question>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.question, waiting.answer)).unzip();
        let found = self.look.at(account, &questions, &mut known).await;
        drop(known);
        match found {
            Ok(found) => answers.into_iter().zip(found).for_each(|(answer, needed)| {
                let _gone = answer.send(Ok(needed));
            }),
            Err(failure) => answers.into_iter().for_each(|answer| {
                let _gone = answer.send(Err(failure.clone()));
            }),
        }
        answered.try_recv().unwrap_or_else(|_| Err(look::unseen("the look was broken off")))
    }
}

impl AccountUse {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
