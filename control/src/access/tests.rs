#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const FILE: &str = r#"
[[access]]
name = "node-1"
role = "node"
token = "node-token-0123456789"

[[access]]
name = "eyes"
role = "viewer"
token_sha256 = "9c75fd8fa5f7bf3cdd7c2b7d1ac1ac8a1d7eae56e9c5d6a6f57bd0b3ff9d7cbe"

[[access]]
name = "ops"
role = "operator"
token_file = "ops.token"

[[access]]
name = "cert"
role = "node"
certificate_cn = "worker-7"
"#;

fn access() -> Access {
    let digest = hex::encode(Sha256::digest("viewer-token-0123456789"));
    let text = FILE.replace("9c75fd8fa5f7bf3cdd7c2b7d1ac1ac8a1d7eae56e9c5d6a6f57bd0b3ff9d7cbe", &digest);
    Access::parse(&text, |path| {
        assert_eq!(path, Path::new("ops.token"));
        Ok("ops-token-0123456789\n".to_owned())
    })
    .unwrap()
}

#[test]
fn each_role_may_do_what_it_is_for_and_no_more() {
    let access = access();
    let callers = [
        ("Bearer node-token-0123456789", "node-1", [true, true, false, false]),
        ("bearer viewer-token-0123456789", "eyes", [true, false, true, false]),
        ("Bearer ops-token-0123456789", "ops", [true, false, true, true]),
    ];
    let needs = [Need::Nothing, Need::Node, Need::Viewer, Need::Operator];
    for (header, name, allowed) in callers {
        for (need, allowed) in needs.into_iter().zip(allowed) {
            let decision = access.decide(need, Some(header.as_bytes()), None);
            assert_eq!(decision.is_ok(), allowed, "{name} {need:?}");
            match decision {
                Ok(caller) if need != Need::Nothing => assert_eq!(caller.name, name),
                Ok(_) => {}
                Err(refusal) => assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}"),
            }
        }
    }
}

#[test]
fn certificates_name_callers_too_but_a_token_goes_first() {
    let access = access();
    assert_eq!(access.decide(Need::Node, None, Some("worker-7")).unwrap().name, "cert");
    assert!(matches!(access.decide(Need::Viewer, None, Some("worker-7")), Err(Refusal::Denied(_))));
    let wrong = access.decide(Need::Node, Some(b"Bearer wrong-token-0123456789"), Some("worker-7"));
    assert!(matches!(wrong, Err(Refusal::Unauthenticated(_))));
}

#[test]
fn the_unknown_are_told_how_to_be_known() {
    let access = access();
    for (header, certificate) in [
        (None, None),
        (Some(&b"Bearer "[..]), None),
        (Some(&b"Basic bm9kZTpub2Rl"[..]), None),
        (Some(&b"Bearer node-token-012345678"[..]), None),
        (None, Some("worker-8")),
    ] {
        let refusal = access.decide(Need::Node, header, certificate).unwrap_err();
        assert!(matches!(refusal, Refusal::Unauthenticated(_)), "{refusal:?}");
        assert_eq!(access.decide(Need::Nothing, header, certificate), Ok(Caller::default()));
    }
    assert_eq!(Access::open().decide(Need::Operator, None, None), Ok(Caller::default()));
}

#[test]
fn what_is_wrong_in_a_file_is_said_without_showing_tokens() {
    let entry = |rest: &str| format!("[[access]]\nname = \"a\"\n{rest}\n");
    for (text, expected) in [
        (String::new(), "no [[access]] entries"),
        ("token = \"planted-secret".to_owned(), "line 1 is not TOML"),
        (entry("role = \"node\"\ntoken = planted-secret"), "line 4 is not TOML"),
        ("planted = 1\n".to_owned(), "unknown key \"planted\""),
        (entry("role = \"root\"\ntoken = \"planted-secret-planted\""), "role \"root\"; expected node"),
        (entry("token = \"planted-secret-planted\""), "no role"),
        (entry("role = \"node\""), "exactly one of"),
        (entry("role = \"node\"\ntoken = \"planted-secret-x\"\ncertificate_cn = \"x\""), "exactly one of"),
        (entry("role = \"node\"\ntoken = 123456789012345678"), "token is not a text"),
        (entry("role = \"node\"\ntoken = \"planted\""), "shorter than 16"),
        (entry("role = \"node\"\ntoken_sha256 = \"planted\""), "64 hexadecimal"),
        (entry("role = \"node\"\npassword = \"planted\""), "unknown key \"password\""),
        (entry("role = \"node\"\ntoken_file = \"x\""), "could not open x"),
        (
            FILE.replace("\"node-token-0123456789\"", "\"ops-token-0123456789\""),
            "access[2]: \"ops\" has the token",
        ),
    ] {
        let read = |path: &Path| match path.to_str() {
            Some("ops.token") => Ok("ops-token-0123456789".to_owned()),
            _ => Err(format!("could not open {}", path.display())),
        };
        let problem = Access::parse(&text, read).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
        assert!(!problem.contains("planted-secret") && !problem.contains("123456789012345678"), "{problem}");
    }
    assert!(!format!("{:?}", access()).contains("0123456789"));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.toml");
    std::fs::write(&path, "[[access]]\nname = \"a\"\nrole = \"node\"\ntoken = \"planted-secret-planted\"\n")
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let problem = Access::read(&path).unwrap_err().to_string();
    assert!(problem.contains("chmod 600"), "{problem}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Access::read(&path).unwrap().is_enforced());
}

/// Reads the contract, so that a call that is added later is not open by accident, nor closed without notice.
#[test]
fn every_call_of_the_contract_has_a_role() {
    use prost_reflect::DescriptorPool;
    let pool = DescriptorPool::decode(swift_s3_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut calls: Vec<(String, Need)> = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            calls.push((format!("{}/{}", service.name(), method.name()), need(&path)));
        }
    }
    let of = |wanted: Need| -> Vec<&str> {
        calls.iter().filter(|(_, need)| *need == wanted).map(|(call, _)| call.as_str()).collect()
    };
    assert!(of(Need::Nothing).is_empty());
    assert!(of(Need::Node).iter().all(|c| c.starts_with("NodeService/") || c.starts_with("PolicyService/")));
    assert_eq!(
        of(Need::Operator),
        [
            "AuditService/RepairObjects",
            "ConfigService/ApplyConfig",
            "ConfigService/RollbackConfig",
            "StatusService/RetryFailures",
            "StatusService/PauseMapping",
            "StatusService/ResumeMapping",
            "StatusService/ReleaseDeletes",
            "StatusService/ForgetNode"
        ]
    );
    assert_eq!(need("/grpc.health.v1.Health/Watch"), Need::Nothing);
    assert_eq!(need("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"), Need::Nothing);
    assert_eq!(need("/somebody.else/Call"), Need::Operator);
    assert_eq!(need("nothing"), Need::Operator);
}
