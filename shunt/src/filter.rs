//! The door for the filter in Swift's own pipeline.
