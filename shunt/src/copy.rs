//! Copies of archived objects.
