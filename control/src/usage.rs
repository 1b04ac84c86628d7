//! What mappings have cost since the month began: what workers counted, times the prices that are in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swift_s3_proto::v1::{MappingUsage, RemoteUsage};
use tokio::sync::Mutex;

use crate::control::Control;
use crate::documents::MappingInfo;
use crate::prices::Prices;
use crate::store::StoreError;
use crate::time;

/// Workers tell it once a minute; read more often, it would be the same.
const REUSE: Duration = Duration::from_secs(2);

/// What was asked of remotes in one month.
#[derive(Clone, Debug, Default)]
pub struct MonthsUsage {
    /// Such as `2026-11`.
    pub month: String,
    /// By mapping.
    pub by_mapping: HashMap<String, RemoteUsage>,
}

/// What was asked this month, as it was read last.
#[derive(Debug, Default)]
pub struct Usages {
    latest: Mutex<Option<(Instant, Arc<MonthsUsage>)>>,
}

impl Usages {
    /// What was asked since the month began.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, control: &Control) -> Result<Arc<MonthsUsage>, StoreError> {
        let month = time::month(time::now_ms());
        // Held while it is read, so that many callers read once.
        let mut latest = self.latest.lock().await;
        if let Some((read_at, usage)) = &*latest
            && usage.month == month
            && read_at.elapsed() < REUSE
        {
            return Ok(Arc::clone(usage));
        }
        let by_mapping = control.store.reader().usage(month.clone()).await?;
        let usage = Arc::new(MonthsUsage { month, by_mapping });
        *latest = Some((Instant::now(), Arc::clone(&usage)));
        Ok(usage)
    }
}

/// A mapping's month in the words of the contract. Without a known price there is no cost, which is not a cost of nothing.
#[must_use]
pub fn of_mapping(mapping: &MappingInfo, month: &str, usage: &RemoteUsage, prices: &Prices) -> MappingUsage {
    let cost = mapping.billed_as.as_deref().and_then(|class| prices.of_usage(usage, class));
    let (currency, prices_as_of) = match cost {
        Some(_) => (prices.currency.clone(), prices.as_of.clone()),
        None => Default::default(),
    };
    MappingUsage { month: month.to_owned(), usage: Some(*usage), cost, currency, prices_as_of }
}
