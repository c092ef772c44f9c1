//! An export under way. It may outlast the right it began with: its caller is asked for anew before each chunk.

use super::{Result, access::Caller};

/// Blocking: pull it from a blocking thread, through to the end, for it holds a snapshot.
pub trait Export: Send + 'static {
    /// The next chunk, as far as the caller may have it now; `None` after the last, or after a failure.
    fn pull(&mut self, caller: &Caller) -> Option<Result<Vec<u8>>>;
}
