//! nginx, as a server of files and as a plain reverse proxy.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use swift_s3_tests::ports::free_port;
use swift_s3_tests::process::{Process, ProcessOptions};

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running nginx of one process.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    /// `127.0.0.1:port`.
    pub address: String,
}

impl Nginx {
    /// Serves files of given sizes as objects of `/v1/AUTH_a/c`.
    pub async fn origin(folder: PathBuf, files: &[(&str, usize)]) -> Result<Self> {
        let objects = folder.join("files/v1/AUTH_a/c");
        fs::create_dir_all(&objects)?;
        for (name, size) in files {
            fs::write(objects.join(name), vec![b'x'; *size])?;
        }
        let location = format!("root {}; sendfile on; tcp_nopush on;", folder.join("files").display());
        Self::start(&folder, &location, "").await
    }

    /// Passes everything on to `origin`.
    pub async fn proxy(folder: PathBuf, origin: &str) -> Result<Self> {
        let upstream =
            format!("upstream origin {{ server {origin}; keepalive 64; keepalive_requests 1000000; }}");
        let location = "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                        proxy_set_header Host $http_host; proxy_request_buffering off; proxy_max_temp_file_size 0; \
                        client_max_body_size 0;";
        Self::start(&folder, location, &upstream).await
    }

    async fn start(folder: &Path, location: &str, upstream: &str) -> Result<Self> {
        let port = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let text = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr error;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               access_log off; keepalive_requests 1000000;\n\
               client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
               {upstream}\n\
               server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}\n\
             }}\n",
            folder.display()
        );
        let conf = folder.join("nginx.conf");
        fs::write(&conf, text)?;
        let options = ProcessOptions::new("nginx", "/usr/sbin/nginx", folder.join("log"))
            .argument("-c")
            .argument(&conf)
            .argument("-p")
            .argument(folder);
        let process = Process::start(options).context("start nginx (make setup installs it)")?;
        let address = format!("127.0.0.1:{port}");
        process.wait_for_port(address.parse()?, START_LIMIT).await?;
        Ok(Self { process, address })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
