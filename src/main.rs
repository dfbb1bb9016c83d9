//! Arguments → one call.

use std::process::ExitCode;

use clap::Parser;
use timescaledb_policy_operator::{
    args::{Arguments, Command},
    cli, metrics, operator,
};

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let result = match command {
        Command::Run(options) => operator::run(*options).await,
        Command::Crd(options) => cli::crd(&options),
        Command::Metrics => {
            print!("{}", metrics::reference());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
