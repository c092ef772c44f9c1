//! Which release this program is.

/// Whole in the binary, for `strings` and for checks that make two releases of one build.
static RELEASE: &str = concat!("debrouille-appliance release ", env!("CARGO_PKG_VERSION"));

/// `0.1.0`.
pub fn version() -> &'static str {
    // Read where it stands: folded into its users it would be there many times.
    std::hint::black_box(RELEASE).trim_start_matches(|letter: char| !letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_package_s() {
        assert_eq!(super::version(), env!("CARGO_PKG_VERSION"));
    }
}
