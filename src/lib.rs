pub mod api;
pub mod catalog;
pub mod desired;
pub mod error;
pub mod plan;
pub mod sql;
pub mod status;
