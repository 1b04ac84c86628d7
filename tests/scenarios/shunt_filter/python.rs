//! The filter alone.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::python::SYSTEM_PYTHON;
use swift_s3_tests::swift_cluster::filter_sources;

#[test]
fn the_filters_own_tests_pass() -> Result<()> {
    let output = Command::new(SYSTEM_PYTHON)
        .args(["-B", "-W", "ignore::ResourceWarning", "-m", "unittest", "discover", "-s", ".", "-t", "."])
        .current_dir(filter_sources())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{text}");
    let ran = text.lines().find(|line| line.starts_with("Ran ")).context("no total")?;
    let number = ran.split(' ').nth(1).and_then(|word| word.parse::<u32>().ok()).context("no total")?;
    println!("the filter's tests: {ran}");
    ensure!(number >= 40, "only {ran}");
    Ok(())
}
