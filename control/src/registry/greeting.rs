//! What a node says first, before anything of it is kept.

use swift_s3_proto::v1::{Hello, Role};
use tonic::Status;

/// The longest id and similar words of a greeting.
const MAX_WORD_BYTES: usize = 255;
/// The longest list in a greeting.
const MAX_LIST: usize = 256;

/// # Errors
/// What is wrong with it, in words for whoever set the node up.
pub(super) fn check(hello: &Hello) -> Result<(), Status> {
    let is_word = |word: &str| word.len() <= MAX_WORD_BYTES && !word.chars().any(char::is_control);
    for (what, word) in [("node_id", &hello.node_id), ("instance_id", &hello.instance_id)] {
        if word.is_empty() || !is_word(word) {
            return Err(Status::invalid_argument(format!(
                "hello.{what} is empty, longer than {MAX_WORD_BYTES} bytes, or has control characters"
            )));
        }
    }
    let lists = [&hello.addresses, &hello.capabilities];
    let words = [&hello.version, &hello.host].into_iter().chain(lists.into_iter().flatten());
    if lists.iter().any(|list| list.len() > MAX_LIST) || !words.into_iter().all(|word| is_word(word)) {
        return Err(Status::invalid_argument(format!(
            "hello: a word is longer than {MAX_WORD_BYTES} bytes or has control characters, or a list is longer than {MAX_LIST}"
        )));
    }
    if !matches!(hello.role(), Role::Worker | Role::Shunt) {
        return Err(Status::invalid_argument(format!(
            "hello.role is {}; expected ROLE_WORKER or ROLE_SHUNT",
            hello.role
        )));
    }
    match hello.version.split('.').next() {
        Some("0" | "1") => Ok(()),
        _ => Err(Status::failed_precondition(format!(
            "this control plane ({}) works with nodes of versions 0.x and 1.x, not {:?}; upgrade the older of both",
            env!("CARGO_PKG_VERSION"),
            hello.version
        ))),
    }
}
