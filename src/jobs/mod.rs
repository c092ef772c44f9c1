//! The scheduler and one small file per recurring task.
