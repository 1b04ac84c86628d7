//! The text of the Swift configuration files.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use super::SwiftOptions;
use super::node::{Node, ServerKind};
use crate::swift_remote::{ACCOUNTS, KEY, RESELLER_ADMIN};

/// The section of s3api.
pub(crate) const S3API: &str = "\n[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\n\
     check_bucket_owner = false\ns3_acl = false\nforce_swift_request_proxy_log = false\n";

/// What every file needs to know.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a SwiftOptions,
    pub(crate) swift_dir: &'a Path,
    pub(crate) user: &'a str,
    pub(crate) memcached: (Ipv4Addr, u16),
    pub(crate) rsync_port: u16,
}

/// Which pipeline a proxy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    /// Clients' proxy: tempauth, and s3api when the options ask for it.
    Public,
    /// No authentication, and the timestamps of its callers are honoured; what a restore needs gets past the gatekeeper.
    Internal,
}

pub(crate) fn swift_conf(options: &SwiftOptions) -> String {
    let mut text = format!(
        "[swift-hash]\nswift_hash_path_prefix = {}\nswift_hash_path_suffix = {}\n\n\
         [storage-policy:0]\nname = gold\ndefault = yes\n",
        options.hash_prefix, options.hash_suffix
    );
    if options.second_policy {
        text.push_str("\n[storage-policy:1]\nname = silver\n");
    }
    if options.erasure_coding {
        text.push_str(
            "\n[storage-policy:2]\nname = coded\npolicy_type = erasure_coding\n\
             ec_type = liberasurecode_rs_vand\nec_num_data_fragments = 2\nec_num_parity_fragments = 1\n\
             ec_object_segment_size = 65536\n",
        );
    }
    text
}

/// For the internal clients of sharder, reconciler and expirer.
pub(crate) fn internal_client_conf(context: &Context<'_>) -> String {
    format!(
        "[DEFAULT]\nswift_dir = {}\nuser = {}\n\n\
         [pipeline:main]\npipeline = catch_errors cache proxy-server\n\n\
         [app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n\n\
         [filter:cache]\nuse = egg:swift#memcache\n{}\n\
         [filter:catch_errors]\nuse = egg:swift#catch_errors\n",
        context.swift_dir.display(),
        context.user,
        memcache_servers(context)
    )
}

pub(crate) fn storage_conf(context: &Context<'_>, node: &Node, kind: ServerKind) -> String {
    let mut text = common(context, node.ip(), node.port(kind));
    let app = kind.application();
    let _ = write!(
        text,
        "devices = {devices}\nmount_check = false\ndisable_fallocate = true\nfallocate_reserve = 0\n\
         recon_cache_path = {cache}\ncontainer_update_timeout = 5\n\n\
         [pipeline:main]\npipeline = healthcheck {app}\n\n\
         [app:{app}]\nuse = egg:swift#{name}\nlog_requests = {log}\n\n\
         [filter:healthcheck]\nuse = egg:swift#healthcheck\n",
        devices = node.devices().display(),
        cache = node.root().join("cache").display(),
        name = kind.name(),
        log = context.options.log_requests,
    );
    let rsync = format!("rsync_module = rsync://{{replication_ip}}:{}/{}\n", context.rsync_port, kind.name());
    let internal =
        format!("internal_client_conf_path = {}\n", context.swift_dir.join("internal-client.conf").display());
    match kind {
        ServerKind::Account => {
            let _ = write!(text, "\n[account-replicator]\n{rsync}\n[account-reaper]\n");
        }
        ServerKind::Container => {
            let _ = write!(
                text,
                "\n[container-replicator]\n{rsync}\n[container-updater]\n\n[container-reconciler]\n\
                 \n[container-sharder]\n{rsync}{internal}\
                 cleave_batch_size = 100\nminimum_shard_size = 1\nshrink_threshold = 1\n"
            );
        }
        ServerKind::Object => {
            let _ = write!(
                text,
                "\n[object-replicator]\n{rsync}\n[object-updater]\n\n[object-reconstructor]\n\
                 \n[object-expirer]\n{internal}"
            );
        }
    }
    text
}

pub(crate) fn proxy_conf(context: &Context<'_>, kind: ProxyKind, ip: Ipv4Addr, port: u16) -> String {
    let options = context.options;
    let pipeline = match kind {
        ProxyKind::Public if options.s3api => {
            "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl s3api tempauth copy slo dlo versioned_writes symlink"
        }
        ProxyKind::Public => {
            "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl tempauth copy slo dlo versioned_writes symlink"
        }
        ProxyKind::Internal => {
            "catch_errors gatekeeper healthcheck cache listing_formats bulk cloud-shunt-internal copy slo dlo versioned_writes symlink"
        }
    };
    let mut text = common(context, ip, port);
    // A node that a scenario stopped and started again must be used again at once, hence the error limits.
    let _ = write!(
        text,
        "\n[pipeline:main]\npipeline = {pipeline} proxy-server\n\n\
         [app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n\
         conn_timeout = 1\nnode_timeout = 10\nerror_suppression_interval = 1\nerror_suppression_limit = 100000\n\
         write_affinity =\n\n\
         [filter:catch_errors]\nuse = egg:swift#catch_errors\n\n\
         [filter:gatekeeper]\nuse = egg:swift#gatekeeper\nshunt_inbound_x_timestamp = {shunt}\n\n\
         [filter:healthcheck]\nuse = egg:swift#healthcheck\n\n\
         [filter:cache]\nuse = egg:swift#memcache\n{cache}\n\
         [filter:listing_formats]\nuse = egg:swift#listing_formats\n\n\
         [filter:bulk]\nuse = egg:swift#bulk\n\n\
         [filter:copy]\nuse = egg:swift#copy\n\n\
         [filter:slo]\nuse = egg:swift#slo\nrate_limit_after_segment = 1000\n\n\
         [filter:dlo]\nuse = egg:swift#dlo\n\n\
         [filter:symlink]\nuse = egg:swift#symlink\n\n\
         [filter:versioned_writes]\nuse = egg:swift#versioned_writes\nallow_versioned_writes = true\n\
         allow_object_versioning = true\n",
        shunt = kind == ProxyKind::Public,
        cache = memcache_servers(context),
    );
    if kind == ProxyKind::Internal {
        text.push_str("\n[filter:cloud-shunt-internal]\nuse = egg:swift-s3-sync#cloud-shunt-internal\n");
    }
    if kind == ProxyKind::Public {
        text.push_str(
            "\n[filter:tempauth]\nuse = egg:swift#tempauth\n\
             user_test_tester = testing .admin\nuser_test_tester3 = testing3\nuser_test2_tester2 = testing2 .admin\n",
        );
        let (admin, key) = RESELLER_ADMIN;
        let _ = writeln!(text, "user_{} = {key} .admin .reseller_admin", admin.replace(':', "_"));
        for number in 0..ACCOUNTS {
            let _ = writeln!(text, "user_scenario{number}_tester = {KEY} .admin");
        }
        text.push_str("\n[filter:tempurl]\nuse = egg:swift#tempurl\nallowed_digests = sha1 sha256 sha512\n");
        if options.s3api {
            text.push_str(S3API);
        }
    }
    text
}

/// One rsync daemon per node, for whole-file transfers of the replicators.
pub(crate) fn rsync_conf(context: &Context<'_>, node: &Node) -> String {
    let mut text = format!(
        "use chroot = no\nlog file = /dev/stderr\npid file = {}\naddress = {}\nport = {}\n",
        node.root().join("rsyncd.pid").display(),
        node.ip(),
        context.rsync_port
    );
    // The daemon of the superuser becomes "nobody" unless told otherwise; others stay who they are.
    if context.user == "root" {
        text.push_str("uid = root\ngid = root\n");
    }
    for kind in ServerKind::ALL {
        let _ = write!(
            text,
            "\n[{}]\npath = {}\nread only = false\nmax connections = 25\nlock file = {}\n",
            kind.name(),
            node.devices().display(),
            node.root().join("rsyncd.lock").display()
        );
    }
    text
}

fn common(context: &Context<'_>, ip: Ipv4Addr, port: u16) -> String {
    format!(
        "[DEFAULT]\nbind_ip = {ip}\nbind_port = {port}\nswift_dir = {}\nuser = {}\nworkers = 0\n\
         log_level = {}\nlog_custom_handlers = swift_host.log_to_stderr\nbind_timeout = 10\n",
        context.swift_dir.display(),
        context.user,
        if context.options.log_requests { "INFO" } else { "WARNING" },
    )
}

fn memcache_servers(context: &Context<'_>) -> String {
    let (ip, port) = context.memcached;
    format!("memcache_servers = {ip}:{port}\nmemcache_max_connections = 20\n")
}
