//! Arguments → one call.

use std::process::ExitCode;

use clap::FromArgMatches as _;
use timescaledb_policy_operator::{
    args::{self, Arguments, Command},
    cli, metrics, operator,
};

#[tokio::main]
async fn main() -> ExitCode {
    let program = args::command(std::env::args().next().as_deref());
    let parsed = program.clone().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let Arguments { command } = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where it cannot be printed there is nobody to tell.
            let _ = error.print();
            // Not clap's 2, which says that a database differs.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match command {
        Command::Run(options) => match operator::run(*options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
        },
        Command::Plan(options) => cli::exit(cli::plan::run(*options).await),
        Command::Apply(options) => cli::exit(Box::pin(cli::apply::run(*options)).await),
        Command::Check(options) => cli::exit(cli::check::run(*options).await),
        Command::Recommend(options) => cli::exit(cli::recommend::run(*options).await),
        Command::Forecast(options) => cli::exit(cli::forecast::run(*options).await),
        Command::Crd(options) => cli::exit(cli::crd::run(&options)),
        Command::Import(options) => cli::exit(cli::import::run(*options).await),
        Command::Status(options) => cli::exit(cli::status::run(*options).await),
        Command::Completion(options) => cli::exit(cli::shell::completion(&options, program)),
        Command::Man(options) => cli::exit(cli::shell::man(&options, program)),
        Command::Version(options) => cli::exit(cli::shell::version(&options)),
        Command::Metrics => {
            print!("{}", metrics::reference());
            ExitCode::SUCCESS
        }
    }
}
