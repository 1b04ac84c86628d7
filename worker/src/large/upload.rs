//! An upload in parts: bounded, resumed where an earlier one was cut off, checked part by part and as a whole.
//!
//! # What is left behind
//!
//! | ended by | the upload |
//! |---|---|
//! | a segment, a part's digest, a refusal | is aborted |
//! | the remote being unreachable, or this process being killed | stays: its parts are used by the next attempt for the same key, or swept later |

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use swift_s3_policy::large_object::{Part, multipart_etag};
use swift_s3_store::{
    CompletedPart, ErrorKind, Multipart, NewUpload, ObjectStore, PutPart, PutReceipt, StoreError, StoredPart,
};
use tokio::time::sleep;

use super::content::{Observed, content};
use super::{Large, PARTS_OF_ONE};
use crate::failpoint;
use crate::reason::{Failure, Reason};
use crate::transfer::{QUICK_RETRIES, Trouble};

/// The most uploads of one key that are looked at. More than a few are leftovers that a sweep will find.
const MOST_UPLOADS: usize = 100;

/// An upload that is to be made.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    /// What is shared.
    pub large: &'a Large,
    /// The remote.
    pub store: &'a dyn ObjectStore,
    /// The local account.
    pub account: &'a str,
    /// The remote key.
    pub key: &'a str,
    /// The parts.
    pub parts: &'a [Part],
    /// Metadata and storage class.
    pub new: &'a NewUpload,
    /// An earlier attempt may have left parts.
    pub may_resume: bool,
    /// Counts the bytes read.
    pub observed: Observed,
}

/// All parts are at the remote; the object is not made yet.
#[derive(Debug)]
pub(crate) struct Filled {
    upload_id: String,
    completed: Vec<CompletedPart>,
    /// What the remote's ETag will be, without quotes.
    pub etag: String,
    /// The upload was begun by an earlier attempt, perhaps with other metadata.
    pub resumed: bool,
}

impl Upload<'_> {
    fn multipart(&self) -> Result<&dyn Multipart, Trouble> {
        self.store.multipart().ok_or_else(|| {
            Trouble::Row(Failure::new(Reason::LargeObject, "the remote takes no uploads in parts"))
        })
    }

    /// Sends all parts that the remote does not have yet.
    pub(crate) async fn fill(&self) -> Result<Filled, Trouble> {
        let multipart = self.multipart()?;
        let (upload_id, stored) = match self.find(multipart).await? {
            Some((id, stored)) => (id, Some(stored)),
            None => (multipart.create(self.key, self.new).await?, None),
        };
        failpoint::reached("upload begun");
        let resumed = stored.is_some();
        let stored = stored.unwrap_or_default();
        let sent = self.send_all(multipart, &upload_id, &stored).await;
        let md5s = match sent {
            Ok(md5s) => md5s,
            Err(trouble) => {
                self.give_up(multipart, &upload_id, &trouble).await;
                return Err(trouble);
            }
        };
        let completed = self
            .parts
            .iter()
            .zip(&md5s)
            .map(|(part, md5)| CompletedPart { number: part.number, etag: hex::encode(md5) })
            .collect();
        Ok(Filled { upload_id, completed, etag: multipart_etag(&md5s), resumed })
    }

    /// Answers the parts' MD5s in their order; the first failure drops what is under way.
    async fn send_all(
        &self,
        multipart: &dyn Multipart,
        upload_id: &str,
        stored: &BTreeMap<u16, StoredPart>,
    ) -> Result<Vec<[u8; 16]>, Trouble> {
        let mut waiting = self.parts.iter();
        let mut sending: FuturesOrdered<BoxFuture<'_, Result<[u8; 16], Trouble>>> = FuturesOrdered::new();
        let mut md5s = Vec::with_capacity(self.parts.len());
        loop {
            while sending.len() < PARTS_OF_ONE
                && let Some(part) = waiting.next()
            {
                let stored = stored.get(&part.number);
                sending.push_back(self.send_unless_stored(multipart, upload_id, part, stored).boxed());
            }
            let Some(sent) = sending.next().await else { return Ok(md5s) };
            md5s.push(sent?);
            failpoint::reached("part sent");
        }
    }

    /// Makes the object. An unknown outcome is settled by looking.
    pub(crate) async fn complete(&self, filled: &Filled) -> Result<(), Trouble> {
        let multipart = self.multipart()?;
        let receipt = match multipart.complete(self.key, &filled.upload_id, &filled.completed).await {
            Ok(receipt) => receipt,
            Err(error) => {
                let found = self.store.head(self.key).await;
                if matches!(&found, Ok(Some(object)) if object.etag.eq_ignore_ascii_case(&filled.etag)) {
                    tracing::debug!(key = self.key, %error, "the upload was completed although its answer says otherwise");
                    return Ok(());
                }
                let trouble = if error.kind() == ErrorKind::NotFound {
                    let message = format!("another worker ended the upload: {error}");
                    Trouble::Row(Failure::new(Reason::RemoteMismatch, message))
                } else {
                    error.into()
                };
                self.give_up(multipart, &filled.upload_id, &trouble).await;
                return Err(trouble);
            }
        };
        failpoint::reached("upload completed");
        check_assembled(&filled.etag, &receipt)
    }

    /// Aborts the upload unless its parts will be of use.
    async fn give_up(&self, multipart: &dyn Multipart, upload_id: &str, trouble: &Trouble) {
        if matches!(trouble, Trouble::Remote(_)) {
            return;
        }
        if let Err(error) = multipart.abort(self.key, upload_id).await {
            tracing::warn!(key = self.key, upload_id, %error, "could not abort an upload; its parts stay until they are swept");
        }
    }

    /// An upload of the same parts that somebody began, and what it has. Others of this key are aborted: a key has one content at a time.
    async fn find(
        &self,
        multipart: &dyn Multipart,
    ) -> Result<Option<(String, BTreeMap<u16, StoredPart>)>, Trouble> {
        if !self.may_resume {
            return Ok(None);
        }
        let page = match multipart.list_uploads(self.key, None).await {
            Ok(page) => page,
            // Not every clone lists uploads, and not all credentials may.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut best: Option<(String, BTreeMap<u16, StoredPart>)> = None;
        for pending in page.uploads.into_iter().filter(|upload| upload.key == self.key).take(MOST_UPLOADS) {
            let parts = match multipart.list_parts(self.key, &pending.upload_id).await {
                Ok(parts) => parts,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let parts: BTreeMap<u16, StoredPart> =
                parts.into_iter().map(|part| (part.number, part)).collect();
            let of_use = self.belongs(&parts);
            let better = best.as_ref().is_none_or(|(_, known)| parts.len() > known.len());
            let loser = if of_use && better {
                best.replace((pending.upload_id, parts)).map(|(id, _)| id)
            } else {
                Some(pending.upload_id)
            };
            if let Some(id) = loser {
                multipart.abort(self.key, &id).await?;
            }
        }
        if let Some((upload_id, parts)) = &best {
            tracing::info!(
                key = self.key,
                upload_id,
                parts = parts.len(),
                of = self.parts.len(),
                "going on with an upload that was cut off"
            );
        }
        Ok(best)
    }

    /// True when nothing that was stored contradicts the parts to be sent.
    fn belongs(&self, stored: &BTreeMap<u16, StoredPart>) -> bool {
        stored.values().all(|stored| {
            let planned = self.parts.get(usize::from(stored.number).wrapping_sub(1));
            planned.is_some_and(|part| {
                let same = part.md5().is_none_or(|md5| stored.etag.eq_ignore_ascii_case(&hex::encode(md5)));
                part.length == stored.length && same
            })
        })
    }

    /// Answers the MD5 of the part.
    async fn send_unless_stored(
        &self,
        multipart: &dyn Multipart,
        upload_id: &str,
        part: &Part,
        stored: Option<&StoredPart>,
    ) -> Result<[u8; 16], Trouble> {
        if let (Some(_), Some(md5)) = (stored, part.md5()) {
            return Ok(md5);
        }
        let mut delays = QUICK_RETRIES.iter();
        loop {
            match self.send(multipart, upload_id, part).await {
                Err(Trouble::Remote(error)) if is_passing(&error) => {
                    let Some(delay) = delays.next() else { return Err(Trouble::Remote(error)) };
                    tracing::debug!(key = self.key, part = part.number, %error, "sending a part failed; trying again");
                    sleep(*delay).await;
                }
                ended => return ended,
            }
        }
    }

    async fn send(
        &self,
        multipart: &dyn Multipart,
        upload_id: &str,
        part: &Part,
    ) -> Result<[u8; 16], Trouble> {
        // Never closed; without a permit there would merely be no bound.
        let _permit = Arc::clone(&self.large.parts).acquire_owned().await;
        let observed = Observed { bytes: Arc::clone(&self.observed.bytes), ..Observed::default() };
        let md5 = part.md5();
        let body = content(&self.large.segments, self.account, part.pieces.clone(), md5, &observed);
        let put = PutPart { number: part.number, length: part.length, content_md5: md5, body };
        let etag = multipart.put_part(self.key, upload_id, put).await?;
        let read = md5.or_else(|| observed.md5.get().copied());
        match read {
            Some(read) if etag.eq_ignore_ascii_case(&hex::encode(read)) => Ok(read),
            read => {
                let read = read.map_or_else(|| "unknown".to_owned(), hex::encode);
                let message =
                    format!("the remote answered ETag {etag} for part {} with MD5 {read}", part.number);
                Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)))
            }
        }
    }
}

/// The remote's own word on what it made of the parts, where its ETags are made as S3 makes them.
fn check_assembled(expected: &str, receipt: &PutReceipt) -> Result<(), Trouble> {
    let Some(etag) = receipt.etag.as_deref().filter(|_| !receipt.kms) else { return Ok(()) };
    let is_like_s3 = etag.split_once('-').is_some_and(|(digest, _)| digest.len() == 32);
    if is_like_s3 && !etag.eq_ignore_ascii_case(expected) {
        let message = format!("the remote answered ETag {etag} for parts that make {expected}");
        return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
    }
    Ok(())
}

fn is_passing(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Throttled)
}
