//! Uploads in parts that nobody completes are given up after a while, and nobody else's are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use crate::CLUSTER;

const AGE_SECONDS: u64 = 3;

async fn begin(site: &Site, key: &str) -> Result<String> {
    let upload =
        site.bucket.sdk().create_multipart_upload().bucket(site.bucket.bucket()).key(key).send().await?;
    upload.upload_id.context("an upload has an id")
}

async fn add_part(site: &Site, key: &str, id: &str, number: i32) -> Result<CompletedPart> {
    let part = site.bucket.sdk().upload_part().bucket(site.bucket.bucket()).key(key).upload_id(id);
    let added = part.part_number(number).body(ByteStream::from_static(b"part")).send().await?;
    Ok(CompletedPart::builder().part_number(number).set_e_tag(added.e_tag).build())
}

/// Keys with uploads in progress, sorted.
async fn in_progress(site: &Site) -> Result<Vec<String>> {
    let listed = site.bucket.sdk().list_multipart_uploads().bucket(site.bucket.bucket()).send().await?;
    Ok(listed.uploads().iter().filter_map(|upload| upload.key()).map(str::to_owned).collect())
}

#[tokio::test]
async fn only_uploads_of_ours_to_which_nothing_is_added_any_more_are_given_up() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.swift.put_object("c", "o", "x", &[]).await?;
    let ours = KeyMapping::new(site.swift.account(), "c", None);
    let (left, filled) = (ours.object_key("left"), ours.object_key("filled"));
    let beside = format!("{}x/o", ours.key_prefix().trim_end_matches('/'));
    let strangers = [beside, "0/theirs".to_owned()];
    for key in strangers.iter().chain([&left]) {
        let id = begin(&site, key).await?;
        add_part(&site, key, &id, 1).await?;
    }
    let id = begin(&site, &filled).await?;
    site.configure(&SyncJson::new().set("stale_upload_age", AGE_SECONDS).mapping(site.mapping("c")))?;
    site.start_workers()?;
    let mut newest = None;
    // Somebody adds to one of them all the time, as a worker that is alive does.
    wait::until("the upload that was left is given up", Duration::from_secs(60), async || {
        newest = Some(add_part(&site, &filled, &id, 1).await?);
        let keys = in_progress(&site).await?;
        ensure!(!keys.contains(&left), "{keys:?}");
        Ok(())
    })
    .await?;
    let mut expected: Vec<String> = strangers.iter().chain([&filled]).cloned().collect();
    expected.sort();
    ensure!(in_progress(&site).await? == expected, "{:?}", in_progress(&site).await?);
    site.wait_equal("c", Duration::from_secs(30)).await?;
    let parts = CompletedMultipartUpload::builder().set_parts(newest.map(|part| vec![part])).build();
    let complete = site.bucket.sdk().complete_multipart_upload().bucket(site.bucket.bucket()).key(&filled);
    complete.upload_id(&id).multipart_upload(parts).send().await?;
    let told: usize =
        site.workers.iter().map(|worker| worker.log_text().matches("gave up an upload").count()).sum();
    ensure!(told == 1, "given up {told} times");
    Ok(())
}
