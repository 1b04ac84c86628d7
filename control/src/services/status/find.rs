//! Finds the mapping that an operator means.

use tonic::Status;

use crate::documents::MappingInfo;

/// Shorter beginnings of an id are too easily mistyped.
const SHORTEST_PREFIX: usize = 4;
/// Candidates that an error names.
const NAMED: usize = 5;

/// The id of the mapping of this id, or whose id alone begins so, or that alone has this `account/container`.
///
/// # Errors
/// NOT_FOUND if there is none; FAILED_PRECONDITION that names them if there are several.
pub(in crate::services) fn mapping(mappings: &[MappingInfo], name: &str) -> Result<String, Status> {
    if mappings.iter().any(|mapping| mapping.id == name) {
        return Ok(name.to_owned());
    }
    let matches = |mapping: &&MappingInfo| {
        (name.len() >= SHORTEST_PREFIX && mapping.id.starts_with(name))
            || mapping.label() == name
            || format!("{}/{}", mapping.account, mapping.container) == name
    };
    let found: Vec<&MappingInfo> = mappings.iter().filter(matches).collect();
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Status::not_found(format!(
            "no mapping {name:?}; expected an id, at least its first {SHORTEST_PREFIX} digits, or account/container"
        ))),
        several => {
            let mut message =
                format!("{} mappings are meant by {name:?}; give one of these ids:", several.len());
            for mapping in several.iter().take(NAMED) {
                message.push_str(&format!(" {} ({} to {})", mapping.id, mapping.label(), mapping.remote));
            }
            if several.len() > NAMED {
                message.push_str(" …");
            }
            Err(Status::failed_precondition(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_mapping_is_found_by_what_is_unique() {
        let info = |id: &str, account: &str, container: &str| MappingInfo {
            id: id.to_owned(),
            account: account.to_owned(),
            container: container.to_owned(),
            remote: "AWS S3/b".to_owned(),
            retain_local: true,
            billed_as: None,
        };
        let mappings = [
            info("aabbccddeeff", "AUTH_a", "photos"),
            info("aabbccddee00", "AUTH_a", "films"),
            info("aabbccddee00-2", "AUTH_a", "films"),
            info("112233445566", "AUTH_a", "/*"),
        ];
        for (name, expected) in [
            ("aabbccddeeff", Ok("aabbccddeeff")),
            ("aabbccddee00", Ok("aabbccddee00")),
            ("1122", Ok("112233445566")),
            ("112", Err(Code::NotFound)),
            ("aabb", Err(Code::FailedPrecondition)),
            ("AUTH_a/photos", Ok("aabbccddeeff")),
            ("AUTH_a/films", Err(Code::FailedPrecondition)),
            ("AUTH_a/*", Ok("112233445566")),
            ("AUTH_a//*", Ok("112233445566")),
            ("AUTH_b/photos", Err(Code::NotFound)),
            ("", Err(Code::NotFound)),
        ] {
            let found = mapping(&mappings, name);
            assert_eq!(found.as_deref().map_err(Status::code), expected, "{name}");
        }
        let message = mapping(&mappings, "AUTH_a/films").map_err(|status| status.message().to_owned());
        assert!(message.is_err_and(|message| message.contains("aabbccddee00-2 (AUTH_a/films to AWS S3/b)")));
    }
}
