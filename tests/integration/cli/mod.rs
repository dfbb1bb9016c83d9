//! The command line against a real TimescaleDB.
