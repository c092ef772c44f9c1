//! What tests share: faulty wrappers, a fixed clock, the harness. Never in a shipped binary.
