//! Name look-ups of a static program: pinned to `/etc/hosts` and DNS, before any thread starts.
//!
//! Static glibc would load the machine's own NSS modules, named in its `nsswitch.conf`, at the first look-up. They
//! were built for another libc than the one inside this program, and can crash it.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

/// Call it first of all in `main`.
pub fn pin_lookups() {
    // glibc(nss.h): `database` and `services` are NUL-terminated and copied; it only changes glibc's own table.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both arguments are constant C strings, and no other thread runs yet that could look names up.
    let refused = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    debug_assert_eq!(refused, 0, "glibc has known this database since 1997");
}
