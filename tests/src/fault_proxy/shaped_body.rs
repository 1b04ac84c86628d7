//! Bodies that end early, stop, change a byte or come slowly.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};

use super::gate::Gate;
use super::rule::Fault;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a body is passed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    cut_at: Option<u64>,
    stall_at: Option<u64>,
    corrupt_at: Option<u64>,
    bytes_per_second: Option<u64>,
    hold_at: Option<(u64, Gate)>,
}

impl Shape {
    pub(super) fn of_request(fault: &Fault) -> Self {
        match fault {
            Fault::TruncateRequest(at) => Self { cut_at: Some(*at), ..Self::default() },
            Fault::CorruptRequest(at) => Self { corrupt_at: Some(*at), ..Self::default() },
            Fault::SlowRequest(rate) => Self { bytes_per_second: Some((*rate).max(1)), ..Self::default() },
            Fault::HoldRequest(at, gate) => Self { hold_at: Some((*at, gate.clone())), ..Self::default() },
            _ => Self::default(),
        }
    }

    pub(super) fn of_answer(fault: &Fault) -> Self {
        match *fault {
            Fault::TruncateAnswer(at) => Self { cut_at: Some(at), ..Self::default() },
            Fault::StallAnswer(at) => Self { stall_at: Some(at), ..Self::default() },
            Fault::CorruptAnswer(at) => Self { corrupt_at: Some(at), ..Self::default() },
            Fault::SlowAnswer(rate) => Self { bytes_per_second: Some(rate.max(1)), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// What becomes of the bytes at `at`: the part to pass on, and whether that is the end.
    async fn apply(&self, at: u64, mut data: Bytes) -> (Bytes, Option<End>) {
        let length = data.len() as u64;
        if let Some(place) = self.corrupt_at.and_then(|place| place.checked_sub(at))
            && place < length
        {
            let mut changed = BytesMut::from(data);
            if let Some(byte) = usize::try_from(place).ok().and_then(|place| changed.get_mut(place)) {
                *byte ^= 0xff;
            }
            data = changed.freeze();
        }
        if let Some(rate) = self.bytes_per_second {
            let millis = length.saturating_mul(1000) / rate;
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if let Some((limit, gate)) = &self.hold_at
            && at + length > *limit
        {
            gate.pass().await;
        }
        for (limit, end) in [(self.cut_at, End::Cut), (self.stall_at, End::Stall)] {
            if let Some(limit) = limit
                && at + length >= limit
            {
                let keep = usize::try_from(limit.saturating_sub(at)).unwrap_or(data.len());
                data.truncate(keep);
                return (data, Some(end));
            }
        }
        (data, None)
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Cut,
    Stall,
}

struct Passing {
    body: Incoming,
    shape: Shape,
    passed: u64,
    end: Option<End>,
}

/// `body` in the given shape. An empty body stays empty, without a chunked encoding of nothing.
pub(super) fn shaped(body: Incoming, shape: Shape) -> Body {
    if body.is_end_stream() {
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    let passing = Passing { body, shape, passed: 0, end: None };
    let frames = stream::unfold(Some(passing), |passing| async move {
        let mut passing = passing?;
        match passing.end {
            Some(End::Stall) => std::future::pending().await,
            Some(End::Cut) => {
                return Some((Err(io::Error::other("cut")), None));
            }
            None => {}
        }
        match passing.body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => {
                    let (data, end) = passing.shape.apply(passing.passed, data).await;
                    passing.passed += data.len() as u64;
                    passing.end = end;
                    Some((Ok(Frame::data(data)), Some(passing)))
                }
                Err(trailers) => Some((Ok(trailers), Some(passing))),
            },
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

pub(super) fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}
