use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Server, parked, progress};

async fn page(server: &Server, request: ListCursorsRequest) -> ListCursorsResponse {
    server.status().await.list_cursors(request).await.unwrap().into_inner()
}

/// Every page of a question, by database.
async fn all(server: &Server, mut request: ListCursorsRequest) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let answer = page(server, request.clone()).await;
        assert!(answer.cursors.len() <= usize::try_from(request.page_size).unwrap());
        found.extend(answer.cursors.into_iter().map(|cursor| cursor.key.unwrap().database_id));
        if answer.next_page_token.is_empty() {
            return found;
        }
        request.page_token = answer.next_page_token;
    }
}

#[tokio::test]
async fn cursors_come_in_pages_by_place_whatever_they_are_asked_for_by() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.worker("n1").await, server.worker("n2").await);
    let feed = |database: &str, account: &str, container: &str, mapping: &str| FeedProgress {
        account: account.to_owned(),
        mapping_id: mapping.to_owned(),
        ..progress(database, container, 7)
    };
    let mut failed = feed("d4", "AUTH_a", "c2", "m1");
    failed.parked = vec![parked("o", 2), parked("waits", 0)];
    one.report(vec![failed, feed("d1", "AUTH_b", "c1", "m2"), feed("d2", "AUTH_a", "c1", "m1")]).await;
    two.report(vec![feed("d3", "AUTH_a", "c1", "m1"), feed("d0", "AUTH_a", "c1", "m2")]).await;

    let request = |change: fn(&mut ListCursorsRequest)| {
        let mut request = ListCursorsRequest { page_size: 2, ..ListCursorsRequest::default() };
        change(&mut request);
        request
    };
    for (asked, expected) in [
        (request(|_| {}), &["d2", "d3", "d0", "d4", "d1"][..]),
        (request(|asked| asked.node_id = "n1".to_owned()), &["d2", "d4", "d1"]),
        (request(|asked| asked.mapping_id = "m2".to_owned()), &["d0", "d1"]),
        (request(|asked| asked.account = "AUTH_a".to_owned()), &["d2", "d3", "d0", "d4"]),
        (request(|asked| asked.container = "c1".to_owned()), &["d2", "d3", "d0", "d1"]),
        (
            request(|asked| {
                asked.node_id = "n2".to_owned();
                asked.container = "c1".to_owned();
                asked.mapping_id = "m1".to_owned();
            }),
            &["d3"],
        ),
        (request(|asked| asked.node_id = "n3".to_owned()), &[]),
    ] {
        assert_eq!(all(&server, asked.clone()).await, expected, "{asked:?}");
    }

    let request = ListCursorsRequest { container: "c2".to_owned(), ..ListCursorsRequest::default() };
    let cursor = page(&server, request).await.cursors.remove(0);
    assert_eq!((cursor.cursors["own"], cursor.failures, cursor.node_id.as_str()), (7, 1, "n1"));
    let age = std::time::SystemTime::now().duration_since(cursor.updated_at.unwrap().try_into().unwrap());
    assert!(age.unwrap().as_secs() < 20);

    let first = page(&server, ListCursorsRequest { page_size: 1, ..ListCursorsRequest::default() }).await;
    let of_another = ListCursorsRequest {
        page_token: first.next_page_token,
        account: "AUTH_a".to_owned(),
        ..ListCursorsRequest::default()
    };
    let refused = server.status().await.list_cursors(of_another).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    // Another node takes the database up: it is that one's from then on.
    two.report(vec![FeedProgress { is_complete: false, ..feed("d4", "AUTH_a", "c2", "m1") }]).await;
    let mine = ListCursorsRequest { page_size: 9, node_id: "n2".to_owned(), ..ListCursorsRequest::default() };
    assert_eq!(all(&server, mine).await, ["d3", "d0", "d4"]);
    server.stop().await;
}

#[tokio::test]
async fn what_a_node_takes_of_its_machine_is_told_while_it_lives() {
    let server = Server::start().await;
    let node = server.worker("n").await;
    let load = NodeLoad {
        cpu_seconds: f64::NAN,
        memory_bytes: 1 << 20,
        open_files: 7,
        max_open_files: 1_024,
        transfers: 3,
        max_transfers: 10,
        uptime_seconds: 12.5,
    };
    let beat = |load| node_message::Message::Heartbeat(Heartbeat { load, ..Heartbeat::default() });
    node.send(beat(Some(load))).await;
    // One that says nothing of it changes nothing.
    node.send(beat(None)).await;
    let nodes = || async {
        let nodes = server.status().await.list_nodes(ListNodesRequest::default()).await.unwrap();
        nodes.into_inner().nodes
    };
    let told = crate::support::eventually(nodes, |nodes| nodes[0].load.is_some()).await;
    assert_eq!(told[0].load, Some(NodeLoad { cpu_seconds: 0.0, ..load }), "what is no number is none");
    drop(node);
    crate::support::eventually(nodes, |nodes| nodes[0].load.is_none()).await;
    server.stop().await;
}
