//! What a request makes depend on something: preconditions, and the checksums that its body must have.

use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ChecksumAlgorithm, ETagCondition};
use s3s::{S3Result, TrailingHeaders, s3_error};

use crate::object::StoredObject;

pub(crate) fn check_precondition(
    existing: Option<&StoredObject>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let matches = |condition: &ETagCondition| match (condition, existing) {
        (_, None) => false,
        (ETagCondition::Any, Some(_)) => true,
        (ETagCondition::ETag(tag), Some(object)) => tag.value() == object.etag,
    };
    if if_match.is_some_and(|condition| !matches(condition)) || if_none_match.is_some_and(matches) {
        return Err(s3_error!(PreconditionFailed));
    }
    Ok(())
}

pub(crate) fn hasher(claimed: &Checksum, algorithm: Option<&ChecksumAlgorithm>) -> ChecksumHasher {
    let uses = |claim: &Option<String>, name: &str| {
        claim.is_some() || algorithm.is_some_and(|algorithm| algorithm.as_str() == name)
    };
    ChecksumHasher {
        crc32: uses(&claimed.checksum_crc32, ChecksumAlgorithm::CRC32).then(Default::default),
        crc32c: uses(&claimed.checksum_crc32c, ChecksumAlgorithm::CRC32C).then(Default::default),
        sha1: uses(&claimed.checksum_sha1, ChecksumAlgorithm::SHA1).then(Default::default),
        sha256: uses(&claimed.checksum_sha256, ChecksumAlgorithm::SHA256).then(Default::default),
        crc64nvme: uses(&claimed.checksum_crc64nvme, ChecksumAlgorithm::CRC64NVME).then(Default::default),
    }
}

/// What the trailers of a chunked body claim comes on top of what the headers claimed.
pub(crate) fn with_trailers(mut claimed: Checksum, trailers: Option<TrailingHeaders>) -> Checksum {
    let Some(trailers) = trailers.and_then(|trailers| trailers.take()) else {
        return claimed;
    };
    let value = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let fields = [
        (&mut claimed.checksum_crc32, "x-amz-checksum-crc32"),
        (&mut claimed.checksum_crc32c, "x-amz-checksum-crc32c"),
        (&mut claimed.checksum_crc64nvme, "x-amz-checksum-crc64nvme"),
        (&mut claimed.checksum_sha1, "x-amz-checksum-sha1"),
        (&mut claimed.checksum_sha256, "x-amz-checksum-sha256"),
    ];
    for (field, name) in fields {
        *field = value(name).or_else(|| field.take());
    }
    claimed
}
