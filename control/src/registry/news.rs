//! What happens to nodes that people want to know afterwards: who came, who fell silent, what changed hands.
//!
//! A node that loses its connection for a moment is no news, nor is a restart of the control plane.

use std::time::Duration;

use swift_s3_proto::v1::{Coordination, Takeover};

use super::{Node, Registry, State};

/// News that wait to be written. More are dropped: they come back with the next heartbeat, or are of nodes that come and go
/// faster than anybody reads.
const MAX_NEWS: usize = 20_000;
/// The newest takeovers of one heartbeat that are looked at; a worker tells those of a day again and again.
const NEWEST_TAKEOVERS: usize = 100;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeNews {
    /// It connected.
    Connected {
        /// Which.
        node_id: String,
        /// Why that is worth a word.
        why: Arrival,
        /// Its version.
        version: String,
        /// Its host's name.
        host: String,
    },
    /// It gives no sign of life any more.
    Lost {
        /// Which.
        node_id: String,
        /// Its last sign of life.
        last_seen_at_ms: i64,
        /// Its host's name.
        host: String,
    },
    /// Shares changed hands at it.
    ChangedHands {
        /// Which.
        node_id: String,
        /// What.
        takeover: Takeover,
    },
}

/// Why it is worth a word that a node connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was never seen, or is forgotten.
    New,
    /// It was silent.
    Back,
    /// Its process was started anew.
    Restarted,
}

/// What a connection of this process of a node is, to whoever knows this of the node.
pub(super) fn arrival(known: Option<&Node>, instance_id: &str) -> Option<Arrival> {
    let Some(known) = known else { return Some(Arrival::New) };
    match &known.instance_id {
        _ if known.record.is_lost => Some(Arrival::Back),
        Some(before) if before != instance_id => Some(Arrival::Restarted),
        // Remembered only: this process of control is the one that was started anew.
        Some(_) | None => None,
    }
}

impl State {
    pub(super) fn tell(&mut self, news: NodeNews) {
        if self.news.len() < MAX_NEWS {
            self.news.push(news);
        }
    }
}

/// What is new in `told`, the oldest first.
pub(super) fn new_takeovers(before: Option<&Coordination>, told: &Coordination) -> Vec<Takeover> {
    let known = before.map_or(&[][..], |before| &before.takeovers);
    let newest = told.takeovers.len().saturating_sub(NEWEST_TAKEOVERS);
    told.takeovers.iter().skip(newest).filter(|takeover| !known.contains(takeover)).cloned().collect()
}

impl Node {
    /// True if it has been silent for too long; one that was only remembered has `absence` to come back.
    fn is_overdue(&self, silence: Duration, absence: Duration) -> bool {
        match (&self.session, &self.instance_id) {
            (Some(session), _) => session.seen_at.elapsed() > silence,
            (None, Some(_)) => self.gone_at.elapsed() > silence,
            (None, None) => self.gone_at.elapsed() > silence.max(absence),
        }
    }
}

impl Registry {
    /// Notes nodes that have been silent for too long. Those that were connected before this process started have `absence` to
    /// come back.
    pub fn look_for_losses(&self, absence: Duration) {
        let silence = self.silence;
        let mut state = self.lock();
        let mut lost = Vec::new();
        for (node_id, node) in &mut state.nodes {
            if node.record.is_lost || !node.is_overdue(silence, absence) {
                continue;
            }
            node.record.is_lost = true;
            node.is_unsaved = true;
            lost.push(NodeNews::Lost {
                node_id: node_id.clone(),
                last_seen_at_ms: node.record.last_seen_at_ms,
                host: node.record.host.clone(),
            });
        }
        for news in lost {
            state.tell(news);
        }
    }

    /// What happened since it was taken last, the oldest first, at most so much.
    #[must_use]
    pub fn take_news(&self, most: usize) -> Vec<NodeNews> {
        let mut state = self.lock();
        let count = state.news.len().min(most);
        state.news.drain(..count).collect()
    }

    /// Has takeovers of a node written down. What there is no room for now is taken for new when the node tells it again.
    pub(super) fn tell_takeovers(&self, node_id: &str, takeovers: Vec<Takeover>) {
        let mut state = self.lock();
        let room = MAX_NEWS.saturating_sub(state.news.len());
        let untold = takeovers.get(room.min(takeovers.len())..).unwrap_or_default();
        if let Some(told) = state.nodes.get_mut(node_id).and_then(|node| node.coordination.as_mut()) {
            told.takeovers.retain(|takeover| !untold.contains(takeover));
        }
        for takeover in takeovers.into_iter().take(room) {
            match takeover.is_returned {
                false => state.takeovers.0 += 1,
                true => state.takeovers.1 += 1,
            }
            state.tell(NodeNews::ChangedHands { node_id: node_id.to_owned(), takeover });
        }
    }
}
