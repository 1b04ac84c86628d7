//! The web pages of the control plane: what is mirrored, what is stuck and why, and the handles to change it.
//!
//! Pages are made by the server and need no JavaScript; with it they follow what happens. Every page is a *view*: a plain value
//! that [`page`] shows as HTML, as JSON, or as a stream of its moving part, whatever was asked for. Views are filled by calls of
//! the control plane's gRPC services with the visitor's own token ([`api`]), so that pages can show and do nothing that the
//! visitor could not with another client.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | the routes, and what stands in front of each |
//! | [`api`] | calls of the control plane |
//! | [`visit`] | one request: who asks, what for, in which form |
//! | [`page`] | a view in the form that was asked for; live updates |
//! | [`security`] | headers, foreign sites, forged forms |
//! | [`assets`] | style, script, charts |
//! | [`failure`] | what went wrong, as a page |
//! | [`pages`] | the pages, one module each |
//! | [`units`], [`text`] | numbers and names for people; the command line shows the same |

pub mod api;
pub mod assets;
pub mod failure;
pub mod page;
pub mod pages;
pub mod security;
pub mod server;
pub mod text;
pub mod units;
pub mod visit;

pub use api::Backend;
pub use server::{Options, Route, Visitor, router};
