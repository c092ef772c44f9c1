//! Host names by files and DNS alone: the static binary must not load the system's name service modules.
//!
//! They were built against another glibc than the one linked in here, and loading them can end the process (seen:
//! SIGFPE on Debian 13). `scripts/check-static` proves that it does not.
#![allow(unsafe_code, reason = "glibc offers no other way; one call, pinned by tests/tidy.rs")]

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    /// glibc, `nss.h`: overrides a database's line of `/etc/nsswitch.conf`; 0, or -1 and `errno`.
    fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
}

/// To be called once, before any other thread starts: glibc takes the setting without a lock.
pub fn pin_host_lookups() -> std::io::Result<()> {
    // SAFETY: both arguments are NUL-terminated and live for ever; glibc copies what it keeps.
    let status = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn glibc_takes_the_setting() {
        super::pin_host_lookups().expect("glibc knows the services `files` and `dns`");
    }

    #[test]
    fn names_are_still_found() {
        use std::net::ToSocketAddrs;
        super::pin_host_lookups().expect("glibc knows the services `files` and `dns`");
        assert!(("localhost", 443).to_socket_addrs().unwrap().any(|address| address.ip().is_loopback()));
    }
}
