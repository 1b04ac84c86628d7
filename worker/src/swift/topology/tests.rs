#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;

use super::*;
use crate::swift::testing::{FakeCluster, write_ring};

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn three() -> FakeCluster {
    FakeCluster::new(&addresses(&["127.0.0.2:6200", "127.0.0.1:6200", "127.0.0.3:6200"]))
}

/// Looks at the files on every lookup.
fn impatient(cluster: &FakeCluster) -> SwiftTopology {
    SwiftTopology::rechecking(cluster.folder.path(), &["127.0.0.1".parse().unwrap()], Duration::ZERO).unwrap()
}

#[test]
fn tells_which_replicas_are_here() {
    let cluster = three();
    let topology = cluster.topology();
    let container = topology.container("AUTH_a", "c").unwrap();
    assert_eq!(container.nodes, 3);
    assert_eq!(container.replicas.iter().map(|replica| replica.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(container.local_indexes().collect::<Vec<_>>(), [1]);
    assert_eq!(container.hash, topology.hash_path().unwrap().hex("AUTH_a", Some("c"), None));
    assert_eq!(
        topology.account("AUTH_a").unwrap().hash,
        topology.hash_path().unwrap().hex("AUTH_a", None, None)
    );

    let object = topology.object(0, "AUTH_a", "c", "o").unwrap();
    assert_eq!(object.kind, PolicyKind::Replication);
    // The local one first, and its index is still Swift's.
    assert_eq!(object.replicas.iter().map(|replica| replica.index).collect::<Vec<_>>(), [1, 0, 2]);
    assert_eq!(topology.object(1, "AUTH_a", "c", "o").unwrap().kind, PolicyKind::ErasureCoding);
    assert!(matches!(topology.object(7, "AUTH_a", "c", "o"), Err(TopologyError::UnknownPolicy(7))));
    assert_eq!(topology.policies().unwrap().len(), 2);
}

#[test]
fn without_given_addresses_every_interface_counts() {
    let cluster = FakeCluster::new(&addresses(&["127.0.0.1:6200", "192.0.2.1:6200", "[::1]:6200"]));
    let unspecified: IpAddr = "0.0.0.0".parse().unwrap();
    for bind in [&[][..], &[unspecified]] {
        let topology = SwiftTopology::new(cluster.folder.path(), bind).unwrap();
        let place = topology.container("a", "c").unwrap();
        let local: Vec<u32> = place.local_indexes().collect();
        assert!(local.contains(&0), "{local:?}");
        assert!(!local.contains(&1), "{local:?}");
    }
    let bound = SwiftTopology::new(cluster.folder.path(), &["192.0.2.1".parse().unwrap()]).unwrap();
    assert_eq!(bound.container("a", "c").unwrap().local_indexes().collect::<Vec<_>>(), [1]);
    let mapped = SwiftTopology::new(cluster.folder.path(), &["::ffff:192.0.2.1".parse().unwrap()]).unwrap();
    assert_eq!(mapped.container("a", "c").unwrap().local_indexes().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_new_ring_comes_into_force_and_a_broken_one_does_not() {
    let cluster = three();
    let topology = impatient(&cluster);
    let path = cluster.folder.path().join("container.ring.gz");
    let count = |topology: &SwiftTopology| topology.container("a", "c").unwrap().nodes;
    assert_eq!(count(&topology), 3);
    write_ring(&path, &addresses(&["127.0.0.1:6200", "127.0.0.4:6200"]));
    assert_eq!(count(&topology), 2);
    std::fs::write(&path, "broken").unwrap();
    assert_eq!(count(&topology), 2);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(count(&topology), 2);
    write_ring(&path, &addresses(&["127.0.0.1:6200"]));
    assert_eq!(count(&topology), 1);
    // A ring that is still good, but was not looked at since, is looked at again.
    let patient = cluster.topology();
    assert_eq!(count(&patient), 1);
    write_ring(&path, &addresses(&["127.0.0.1:6200", "127.0.0.4:6200"]));
    assert_eq!(count(&patient), 1);
}

#[test]
fn a_new_swift_conf_comes_into_force_and_a_broken_one_does_not() {
    let cluster = three();
    let topology = impatient(&cluster);
    let path = cluster.folder.path().join("swift.conf");
    let before = topology.container("a", "c").unwrap().hash;
    std::fs::write(&path, "").unwrap();
    assert_eq!(topology.container("a", "c").unwrap().hash, before);
    std::fs::write(&path, "[swift-hash]\nswift_hash_path_suffix = other\n").unwrap();
    assert_ne!(topology.container("a", "c").unwrap().hash, before);
    topology.refresh();
}

#[test]
fn what_was_never_there_is_an_error_until_it_is() {
    let cluster = three();
    let path = cluster.folder.path().join("object.ring.gz");
    std::fs::write(&path, "broken").unwrap();
    let topology = impatient(&cluster);
    let error = topology.object(0, "a", "c", "o").unwrap_err();
    assert!(matches!(error, TopologyError::Ring(_)), "{error}");
    write_ring(&path, &addresses(&["127.0.0.1:6200"]));
    topology.object(0, "a", "c", "o").unwrap();

    std::fs::remove_file(cluster.folder.path().join("swift.conf")).unwrap();
    let fresh = impatient(&cluster);
    assert!(matches!(fresh.container("a", "c"), Err(TopologyError::Conf(_))));
}
