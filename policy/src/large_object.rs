//! Large objects: what a manifest says, and how its content is laid out on a remote.
//!
//! | module | tells |
//! |---|---|
//! | [`manifest`] | what a stored manifest lists |
//! | [`pieces`] | which bytes of which local objects make the content, in order; which of these objects are carried in whole |
//! | [`plan`] | the parts of an upload: the segments themselves where S3 allows that, otherwise parts cut anew |
//! | [`companion`] | what is kept beside the remote object, and how segments and manifests are made again from both |
//!
//! The worker calls these before it moves a byte. Everything here is bounded by [`MAX_PIECES`], whatever a manifest claims.
//!
//! Source: `swift/common/middleware/slo.py` and `dlo.py` of Swift 2.30.1.

pub mod companion;
pub mod manifest;
pub mod pieces;
pub mod plan;

pub use companion::{
    Rebuilt, RebuiltManifest, RebuiltSegment, companion_of_manifest, companion_of_pieces, rebuild,
};
pub use manifest::{Entry, Manifest, ObjectEntry, dlo_source, listing_etag};
pub use pieces::{Coverage, Piece, coverage, flatten};
pub use plan::{
    MAX_OBJECT_BYTES, MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, Part, classic_parts, cut, multipart_etag,
};

/// The most entries of a manifest, with everything nested in it, and the most pieces of a content. Swift allows 1,000 entries unless its
/// operators raise that; S3 stores 10,000 parts.
pub const MAX_PIECES: usize = 100_000;

/// How deep manifests may be nested. Source: `max_slo_recursion_depth` in `slo.py`.
pub const MAX_DEPTH: usize = 10;

/// Why a manifest cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not what Swift stores.
    #[error("the manifest cannot be read: {0}")]
    Json(String),
    /// An entry is not what Swift stores.
    #[error("entry {index} of the manifest: {problem}")]
    Entry {
        /// Counted from zero.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// Too many entries or pieces.
    #[error("the large object has more than {MAX_PIECES} segments")]
    TooMany,
    /// Manifests nested too deep.
    #[error("manifests are nested more than {MAX_DEPTH} deep, or in themselves")]
    TooDeep,
    /// A nested manifest that was not handed in.
    #[error("the nested manifest {0} is not at hand")]
    NotLoaded(String),
    /// A nested manifest is not the one that the outer manifest names.
    #[error("the nested manifest {name} has ETag {found}, the manifest says {expected}")]
    OtherNested {
        /// Container and object.
        name: String,
        /// What the outer manifest has.
        expected: String,
        /// What the nested manifest comes to.
        found: String,
    },
    /// More bytes than a remote stores as one object.
    #[error("the large object has {0} bytes, the remote stores at most {MAX_OBJECT_BYTES}")]
    TooLarge(u64),
    /// The lengths cannot be added up.
    #[error("the lengths in the manifest exceed what a number holds")]
    Overflow,
    /// The remote object is not as long as its manifest says.
    #[error("the manifest speaks of {expected} bytes, the remote object has {found}")]
    Length {
        /// By the manifest.
        expected: u64,
        /// Of the remote object.
        found: u64,
    },
}

#[cfg(test)]
mod tests;
