//! Poem routes, one file per resource; the gates, the envelope and the errors.
