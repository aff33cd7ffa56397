//! Spark SQL: text to statements, statements to plans.
//!
//! ```text
//! text ── variables ─► parser ─► Statement ── planner ─► Planned: rows, a write, a flow, or what a definition did
//!                                               │
//!                      catalog (tables, views) ─┤
//!                      connectors (schemas) ────┘
//! ```
//!
//! A query is planned in a session of its own, in which only the tables that it names are registered: references are
//! read off the syntax tree ([`references`]), after Spark's clauses became DataFusion's ([`syntax`]); each is resolved to a provider, schemas that functions take from a registry
//! are written into the tree ([`schema_functions`]), and it is rewritten to what DataFusion plans ([`rewrite`]). Rules on plans ([`rules`]) do what PySpark's plans need as well.

pub mod aggregates;
pub mod catalog;
pub mod dialect;
pub mod error;
pub mod event_windows;
pub mod function_table;
pub mod functions;
pub mod generators;
pub mod grouping;
pub mod insert;
pub mod item_names;
pub mod joins;
pub mod literals;
pub mod marks;
pub mod multisets;
pub mod names;
pub mod operators;
pub mod parser;
pub mod physical;
pub mod pivot;
pub mod placed;
pub mod planner;
pub mod quoted;
pub mod references;
pub mod rewrite;
pub mod rules;
pub mod schema_functions;
pub mod semantics;
pub mod series;
pub mod stream_table;
pub mod streaming;
pub mod subqueries;
pub mod syntax;
pub mod types;
pub mod variables;
pub mod windows;
