//! The product's store against the strict server in memory, which keeps every rule that S3 has for uploads in parts.

#[path = "../../store/tests/support/multipart_suite.rs"]
mod multipart_suite;

use anyhow::Result;
use swift_s3_policy::{Addressing, ArchivedMetadata, CredentialSource, S3Remote};
use swift_s3_store::{S3Settings, StaticCredentials};
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_server_and_the_store_agree_on_uploads_in_parts() -> Result<()> {
    let server = S3Server::start(S3ServerKind::Memory).await?;
    server.create_bucket("strict").await?;
    let access = server.access();
    let store = swift_s3_store::open(&S3Settings {
        remote: S3Remote {
            endpoint: Some(access.endpoint.clone()),
            bucket: "strict".to_owned(),
            region: None,
            addressing: Addressing::Path,
            credentials: CredentialSource::DefaultChain,
            encryption: false,
            storage_class: None,
            archived_metadata: ArchivedMetadata::default(),
        },
        credentials: Some(StaticCredentials {
            identity: access.identity.clone(),
            secret: access.secret.clone(),
            session_token: None,
        }),
        http_proxy: None,
        https_proxy: None,
        max_connections: 4,
    })
    .await?;
    let quirks = multipart_suite::Quirks {
        checks_md5: true,
        checks_copy_condition: true,
        checks_part_size: true,
        checks_part_etags: true,
        has_usual_etag: true,
        keeps_metadata: true,
        lists_uploads: true,
        forgets_ended_uploads: true,
        lists_parts: true,
        has_classes: true,
    };
    multipart_suite::conforms(&*store, quirks).await;
    Ok(())
}
