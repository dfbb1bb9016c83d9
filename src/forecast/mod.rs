//! How storage goes on, from what the chunks of hypertables hold: ingest as it was measured ([`ingest`]).

pub mod ingest;
