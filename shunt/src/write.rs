//! DELETE and POST of archived objects.
