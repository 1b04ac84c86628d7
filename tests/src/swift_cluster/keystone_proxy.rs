//! One more proxy, which asks a Keystone who its callers are.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;

use super::SwiftCluster;
use crate::keystone::{ADMIN, Keystone, OPERATOR_ROLE, RESELLER_ADMIN_ROLE};
use crate::ports::free_port;

impl SwiftCluster {
    /// Starts it; answers `http://address:port`. Its accounts are `AUTH_` and a project's id.
    pub async fn start_keystone_proxy(&self, keystone: &Keystone) -> Result<String> {
        let public = fs::read_to_string(self.swift_dir.join("proxy.conf"))?;
        let ip = self.proxy.ip();
        let address = SocketAddr::new(ip, free_port(ip)?);
        let bound = format!("bind_port = {}\n", self.proxy.port());
        let mut text = public
            .replace(&bound, &format!("bind_port = {}\n", address.port()))
            .replace(" tempauth ", " authtoken keystoneauth ");
        // Without its cache every request asks Keystone, which therefore can revoke a token.
        text.push_str(&format!(
            "\n[filter:authtoken]\npaste.filter_factory = keystonemiddleware.auth_token:filter_factory\n\
             www_authenticate_uri = {url}\nauth_url = {url}\nauth_type = password\nusername = {ADMIN}\npassword = {password}\n\
             project_name = {ADMIN}\nuser_domain_name = Default\nproject_domain_name = Default\n\
             delay_auth_decision = true\ninclude_service_catalog = false\ntoken_cache_time = -1\n\
             \n[filter:keystoneauth]\nuse = egg:swift#keystoneauth\noperator_roles = {OPERATOR_ROLE}\n\
             reseller_admin_role = {RESELLER_ADMIN_ROLE}\n",
            url = keystone.url(),
            password = keystone.password(),
        ));
        let name = format!("keystone-proxy-{}", address.port());
        let conf = self.swift_dir.join(format!("{name}.conf"));
        fs::write(&conf, text)?;
        let log = format!("{name}.log");
        let pid = self.host.serve("proxy-server", &conf, &log).await?;
        self.wait_for_server(address, pid, &log).await?;
        Ok(format!("http://{address}"))
    }
}
