//! Everything about one mapping.

use std::sync::Arc;

use swift_s3_proto::v1::DescribeMappingResponse;
use tonic::Status;

use super::{find, store_status};
use crate::control::Control;
use crate::overview::Overview;
use crate::push::Current;

pub(super) async fn describe(
    control: &Arc<Control>,
    overview: &Arc<Overview>,
    name: &str,
) -> Result<DescribeMappingResponse, Status> {
    let current = Arc::clone(&overview.current);
    let id = find::mapping(&current.mappings, name)?;
    let status = overview.mappings.iter().find(|mapping| mapping.mapping_id == id).cloned();
    let reasons = control.store.reader().failure_reasons(&id, "", "").await;
    let failure_reasons = reasons.map_err(|error| store_status(&error))?;
    // A new revision of many mappings takes a while to read.
    let of_control = Arc::clone(control);
    let told = tokio::task::spawn_blocking(move || configured(&of_control, &current, &id)).await;
    let Configured { policy, document, path } = told.map_err(|error| Status::internal(error.to_string()))?;
    Ok(DescribeMappingResponse { status, policy, document, path, failure_reasons })
}

/// What the configuration says of a mapping.
#[derive(Default)]
struct Configured {
    policy: Vec<String>,
    document: String,
    path: String,
}

fn configured(control: &Control, current: &Current, id: &str) -> Configured {
    let Some(config) = control.parsed.config(current) else { return Configured::default() };
    let index = config.mapping_ids().iter().position(|known| known == id);
    let Some(mapping) = index.and_then(|index| config.mappings.get(index)) else {
        return Configured::default();
    };
    Configured {
        policy: swift_s3_policy::sentences(mapping),
        document: swift_s3_policy::element(current.text(), mapping.position()),
        path: mapping.path.clone(),
    }
}
