//! Use cases: one file or folder per capability, the only place with rules.
