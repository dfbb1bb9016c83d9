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
    match command {
        Command::Run(options) => match operator::run(*options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
        },
        Command::Plan(options) => cli::exit(cli::plan::run(*options).await),
        Command::Apply(options) => cli::exit(cli::apply::run(*options).await),
        Command::Crd(options) => cli::exit(cli::crd::run(&options)),
        Command::Metrics => {
            print!("{}", metrics::reference());
            ExitCode::SUCCESS
        }
    }
}
