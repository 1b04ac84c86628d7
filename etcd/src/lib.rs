//! What workers and control processes need of etcd.
