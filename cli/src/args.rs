//! Everything that can be typed.

use clap::{Parser, Subcommand};

#[cfg(feature = "server")]
use crate::commands::server;
use crate::commands::{
    agent, approval, audit, bundle, conformance, entry, healthcheck, jwt, psk, svid, token, why,
    wit,
};
use crate::console::{Console, Format};
use crate::failure::Failure;

/// Hands out identities and one-time TLS 1.3 keys to programs that can prove what they are
#[derive(Debug, Parser)]
#[command(
    name = "claviger",
    version,
    max_term_width = 100,
    long_about = "Hands out identities and one-time TLS 1.3 keys to programs that can prove what \
                  they are.\n\n\
                  To see what it does:   claviger demo\n\
                  To try it yourself:    claviger dev --dir /tmp/claviger\n\
                  For production:        claviger server run, claviger agent run, claviger shim run",
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 the command line or the \
                  configuration makes no sense."
)]
pub(crate) struct Args {
    /// What to print: a text for people, or one JSON document of a stable shape for programs
    #[arg(long, global = true, value_enum, default_value = "pretty", value_name = "FORM")]
    #[arg(display_order = 900)]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Server(server::Command),
    #[command(subcommand)]
    Agent(agent::Command),
    #[cfg(feature = "shim")]
    #[command(subcommand)]
    Shim(crate::commands::shim::Command),
    #[cfg(feature = "shim")]
    Exec(crate::commands::exec::Command),
    #[cfg(all(feature = "server", feature = "agent"))]
    Dev(crate::commands::dev::Dev),
    #[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
    Demo(crate::commands::demo::Demo),
    #[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
    #[command(hide = true)]
    DemoWorkload(crate::commands::demo::Workload),
    Conformance(conformance::Conformance),
    Healthcheck(healthcheck::Healthcheck),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Entry(entry::Command),
    #[command(subcommand)]
    Bundle(bundle::Command),
    #[command(subcommand)]
    Svid(svid::Command),
    #[command(subcommand)]
    Jwt(jwt::Command),
    #[command(subcommand)]
    Wit(wit::Command),
    #[command(subcommand)]
    Psk(psk::Command),
    #[command(subcommand)]
    Approval(approval::Command),
    #[command(subcommand)]
    Quarantine(crate::commands::quarantine::Command),
    #[command(subcommand)]
    Risk(crate::commands::risk::Command),
    #[cfg(feature = "ci")]
    #[command(subcommand)]
    Ci(crate::commands::ci::Command),
    #[command(subcommand)]
    Policy(crate::commands::policy::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    #[cfg(feature = "evidence")]
    #[command(subcommand)]
    Evidence(crate::commands::evidence::Command),
    #[cfg(feature = "evidence")]
    #[command(subcommand)]
    References(crate::commands::references::Command),
    Why(why::Why),
}

impl Args {
    /// Does what was typed.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?;
        runtime.block_on(Box::pin(self.command.run(Console::new(self.output))))
    }
}

impl Command {
    async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            #[cfg(feature = "server")]
            Self::Server(command) => command.run(console).await,
            Self::Agent(command) => command.run(console).await,
            #[cfg(feature = "shim")]
            Self::Shim(command) => command.run(console).await,
            #[cfg(feature = "shim")]
            Self::Exec(command) => Box::pin(command.run()).await,
            #[cfg(all(feature = "server", feature = "agent"))]
            Self::Dev(dev) => dev.run(console).await,
            #[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
            Self::Demo(demo) => demo.run(console).await,
            #[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
            Self::DemoWorkload(workload) => workload.run().await,
            Self::Conformance(conformance) => conformance.run(console).await,
            Self::Healthcheck(healthcheck) => healthcheck.run(console).await,
            Self::Token(command) => command.run(console).await,
            Self::Entry(command) => command.run(console).await,
            Self::Bundle(command) => command.run(console).await,
            Self::Svid(command) => command.run(console).await,
            Self::Jwt(command) => command.run(console).await,
            Self::Wit(command) => command.run(console).await,
            Self::Psk(command) => command.run(console).await,
            Self::Approval(command) => command.run(console).await,
            Self::Quarantine(command) => command.run(console).await,
            Self::Risk(command) => command.run(console).await,
            #[cfg(feature = "ci")]
            Self::Ci(command) => command.run(console).await,
            Self::Policy(command) => Box::pin(command.run(console)).await,
            Self::Audit(command) => command.run(console).await,
            #[cfg(feature = "evidence")]
            Self::Evidence(command) => command.run(console),
            #[cfg(feature = "evidence")]
            Self::References(command) => command.run(console),
            Self::Why(why) => why.run(console).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_ascii_whitespace())
    }

    #[test]
    fn the_tree_holds_together() {
        Args::command().debug_assert();
    }

    /// Somebody who types `--help` learns from an example.
    #[test]
    fn every_verb_shows_an_example() {
        fn check(command: &clap::Command) {
            let mut children =
                command.get_subcommands().filter(|child| !child.is_hide_set()).peekable();
            if children.peek().is_some() {
                children.for_each(check);
            } else if command.get_name() != "help" {
                let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
                let name = command.get_name();
                assert!(about.contains("Example:\n  claviger "), "{name}: {about}");
            }
        }
        check(&Args::command());
    }

    #[test]
    fn spires_spelling_is_understood() {
        parse(
            "claviger entry create --spiffeID spiffe://a.org/x --parentID spiffe://a.org/p \
             --selector unix:uid:1 --selector unix:path:/x --x509SVIDTTL 60 --dns db \
             --federatesWith spiffe://b.org --entryExpiry 7 --storeSVID --socketPath /x.sock",
        )
        .unwrap();
        parse("claviger agent evict --spiffeID spiffe://a.org/spire/agent/x").unwrap();
        parse("claviger token generate --spiffeID spiffe://a.org/n --ttl 5").unwrap();
        parse("claviger entry show --entryID e1 --output json").unwrap();
    }

    #[test]
    fn standings_are_said_with_a_reason() {
        let id = "spiffe://a.org/x";
        parse(&format!("claviger quarantine add {id} --reason x --wait 2s")).unwrap();
        parse(&format!("claviger risk set {id} 40 --reason x")).unwrap();
        let kind = |line: String| parse(&line).unwrap_err().kind();
        let mute = kind(format!("claviger quarantine lift {id}"));
        assert_eq!(mute, ErrorKind::MissingRequiredArgument);
        for risk in ["101", "-1", "high"] {
            let odd = kind(format!("claviger risk set {id} --reason x -- {risk}"));
            assert_eq!(odd, ErrorKind::ValueValidation, "{risk}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let kind = |line| parse(line).unwrap_err().kind();
        let create = "claviger entry create --spiffe-id spiffe://a.org/x";
        assert_eq!(kind(create), ErrorKind::MissingRequiredArgument);
        let both = format!("{create} --selector a:b --data x.json");
        assert_eq!(kind(&both), ErrorKind::ArgumentConflict);
        let data = "claviger entry create --data x.json --hint h";
        assert_eq!(kind(data), ErrorKind::ArgumentConflict);
        parse("claviger entry create --data x.json --wait").unwrap();
        let node = format!("{create} --selector a:b --node --parent-id spiffe://a.org/p");
        assert_eq!(kind(&node), ErrorKind::ArgumentConflict);
        let show = "claviger entry show --entry-id e --spiffe-id spiffe://a.org/x";
        assert_eq!(kind(show), ErrorKind::ArgumentConflict);
        let update = "claviger entry update --entry-id e --spiffe-id spiffe://a.org/x";
        assert_eq!(kind(update), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("claviger entry delete"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("claviger healthcheck --server --agent"), ErrorKind::ArgumentConflict);
    }

    /// `--exec` takes everything that follows, flags of ours included.
    #[test]
    fn a_program_to_run_keeps_its_arguments() {
        let watch = "claviger svid watch --write /run/web";
        let args = parse(&format!("{watch} --exec nginx -s reload --output json -- --write x"));
        let args = format!("{:?}", args.unwrap());
        let exec = r#"exec: ["nginx", "-s", "reload", "--output", "json", "--", "--write", "x"]"#;
        assert!(args.contains(exec) && args.contains("Pretty"), "{args}");
        let kind = |line: String| parse(&line).unwrap_err().kind();
        let alone = kind("claviger svid watch --exec true".to_owned());
        assert_eq!(alone, ErrorKind::MissingRequiredArgument);
        let signal = kind(format!("{watch} --signal HUP"));
        assert_eq!(signal, ErrorKind::MissingRequiredArgument);
        let unknown = kind(format!("{watch} --pid-file /run/x.pid --signal KILL"));
        assert_eq!(unknown, ErrorKind::InvalidValue);
        parse(&format!("{watch} --pid-file /run/x.pid --signal sigusr2")).unwrap();
    }

    #[test]
    fn a_bad_value_is_named_with_what_it_should_be() {
        let told = |line| parse(line).unwrap_err().to_string();
        let id = told("claviger agent show --spiffe-id http://a.org/x");
        assert!(id.contains("http://a.org/x") && id.contains("spiffe://"), "{id}");
        let ttl = told("claviger psk issue --peer spiffe://a.org/x --purpose p --ttl 301");
        assert!(ttl.contains("301") && ttl.contains("300"), "{ttl}");
        let socket = told("claviger svid fetch --endpoint-socket tcp://127.0.0.1:1");
        assert!(socket.contains("tcp://127.0.0.1:1") && socket.contains("unix:///"), "{socket}");
        let selector = told("claviger entry count --selector uid");
        assert!(selector.contains("kind:value"), "{selector}");
        let mode = told("claviger svid watch --write /x --key-mode 0644");
        assert!(mode.contains("0644") && mode.contains("0640"), "{mode}");
        let audience = parse("claviger jwt fetch --audience a,,b").unwrap_err().kind();
        assert_eq!(audience, ErrorKind::InvalidValue);
    }
}
