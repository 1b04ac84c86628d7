//! Commands that change one thing: pause, resume, release deletes, forget a node.

use serde_json::json;
use swift_s3_proto::v1::{
    ForgetNodeRequest, PauseMappingRequest, ReleaseDeletesRequest, ResumeMappingRequest,
};

use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json::{self, Named};
use crate::ctl::output::Output;

fn done<M: Named>(output: &mut Output, answer: &M, words: &str) -> Result<Exit, Failure> {
    if output.is_table() {
        output.line(words)?;
    } else {
        output.json(&json::value(answer)?)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn pause(server: &Connection, mapping: &str, output: &mut Output) -> Result<Exit, Failure> {
    let request = PauseMappingRequest { mapping: mapping.to_owned() };
    let answer = server.call("pause the mapping", server.status().pause_mapping(request)).await?;
    let already = if answer.changed { "" } else { " already" };
    done(
        output,
        &answer,
        &format!("mapping {} is paused{already}; transfers under way finish", answer.mapping_id),
    )
}

pub(super) async fn resume(server: &Connection, mapping: &str, output: &mut Output) -> Result<Exit, Failure> {
    let request = ResumeMappingRequest { mapping: mapping.to_owned() };
    let answer = server.call("resume the mapping", server.status().resume_mapping(request)).await?;
    let words = if answer.changed { "goes on" } else { "was not paused" };
    done(output, &answer, &format!("mapping {} {words}", answer.mapping_id))
}

pub(super) async fn release(
    server: &Connection,
    mapping: &str,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let request = ReleaseDeletesRequest { mapping: mapping.to_owned() };
    let answer = server.call("release the deletes", server.status().release_deletes(request)).await?;
    done(output, &answer, &format!("deletes that mapping {} held until now may go", answer.mapping_id))
}

pub(super) async fn forget(server: &Connection, id: &str, output: &mut Output) -> Result<Exit, Failure> {
    let request = ForgetNodeRequest { node_id: id.to_owned() };
    server.call("forget the node", server.status().forget_node(request)).await?;
    if output.is_table() {
        output.line(&format!("node {id} is forgotten; its cursors belong to databases, and stay"))?;
    } else {
        output.json(&json!({ "node_id": id }))?;
    }
    Ok(Exit::Done)
}
