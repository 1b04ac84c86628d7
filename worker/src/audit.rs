//! Whole containers against their remotes: compares them by listings, repairs what differs, counts what would be moved. Asked for by
//! operators through the control plane, page by page.
//!
//! | module | does |
//! |---|---|
//! | [`merge`] | walks two sorted listings side by side; pure |
//! | [`verdict`] | what one name is, by its two entries and by a closer look; pure |
//! | [`walk`] | both listings of one container, read ahead, kept between two pages |
//! | [`compare`] | one page: walk, look closer at what differs, answer |
//! | [`repair`] | has names handled again |
//! | [`count`] | one page of a container, counted |
//! | [`sizes`] | counts of objects by size; pure |

pub mod compare;
pub mod count;
pub mod merge;
pub mod repair;
pub mod sizes;
pub mod verdict;
pub mod walk;

use std::sync::Arc;

use swift_s3_proto::v1::audit_answer::Answer;
use swift_s3_proto::v1::audit_command::Question;
use swift_s3_proto::v1::{AuditAnswer, AuditCommand, AuditFailure};
use tokio::sync::{Semaphore, mpsc};

use crate::board::Board;
use crate::feed::Feed;
use crate::schedule::Order;
use crate::swift::container_server::{ContainerServerError, ContainerServers};
use crate::swift::local_objects::LocalObjects;
use walk::Walks;

/// Questions that are answered at the same time. Each holds a few pages of two listings.
const AT_ONCE: usize = 4;

/// Answers questions about whole containers.
#[derive(Debug)]
pub struct Auditor {
    board: Arc<Board>,
    servers: ContainerServers,
    local: LocalObjects,
    orders: mpsc::Sender<Order>,
    walks: Walks,
    permits: Semaphore,
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// This worker has nothing to do with the mapping's container.
    #[error("this worker does not serve the container for the mapping")]
    NotServed,
    /// Enough is under way.
    #[error("{AT_ONCE} comparisons and counts are under way here already")]
    Busy,
    /// It must not be done.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such container.
    #[error("there is no such container")]
    NoContainer,
    /// Something failed.
    #[error("{0}")]
    Failed(String),
}

impl From<ContainerServerError> for Refusal {
    fn from(error: ContainerServerError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Auditor {
    /// An auditor of what `board` shows. Repairs wake feeds through `orders`.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        servers: ContainerServers,
        local: LocalObjects,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        Self { board, servers, local, orders, walks: Walks::default(), permits: Semaphore::new(AT_ONCE) }
    }

    /// Answers one question.
    pub async fn answer(&self, command: AuditCommand) -> AuditAnswer {
        let id = command.id;
        let answered = match command.question {
            Some(question) => self.find_out(question).await,
            None => Err(Refusal::Failed("this worker does not know the question; upgrade it".to_owned())),
        };
        match answered {
            Ok(answer) => AuditAnswer { id, answer: Some(answer), ..AuditAnswer::default() },
            Err(refusal) => {
                let kind = match refusal {
                    Refusal::NotServed => AuditFailure::NotServed,
                    Refusal::Busy => AuditFailure::Busy,
                    Refusal::Forbidden(_) => AuditFailure::Refused,
                    Refusal::NoContainer => AuditFailure::NoContainer,
                    Refusal::Failed(_) => AuditFailure::Unspecified,
                };
                AuditAnswer {
                    id,
                    failure: refusal.to_string(),
                    failure_kind: kind.into(),
                    ..AuditAnswer::default()
                }
            }
        }
    }

    async fn find_out(&self, question: Question) -> Result<Answer, Refusal> {
        let _permit = match &question {
            // The feeds bound themselves.
            Question::Repair(_) => None,
            _ => Some(self.permits.try_acquire().map_err(|_| Refusal::Busy)?),
        };
        Ok(match question {
            Question::Compare(request) => Answer::Compare(self.compare(request).await?),
            Question::Repair(request) => Answer::Repair(self.repair(request).await?),
            Question::Count(request) => Answer::Count(count::count(&self.servers, request).await?),
            Question::List(request) => Answer::List(count::list(&self.servers, &request).await?),
        })
    }

    /// The feeds of a mapping's container on this node: one for each database.
    fn feeds(&self, mapping_id: &str, account: &str, container: &str) -> Result<Vec<Arc<Feed>>, Refusal> {
        let is_meant = |feed: &Arc<Feed>| {
            feed.mapping.id == mapping_id
                && feed.route.account == account
                && feed.route.container == container
        };
        let feeds: Vec<Arc<Feed>> = self.board.feeds().into_iter().filter(is_meant).collect();
        if feeds.is_empty() { Err(Refusal::NotServed) } else { Ok(feeds) }
    }
}
