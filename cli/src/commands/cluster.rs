//! `ksail cluster …`: the commands and flags that users of KSail know, and those for a cluster's days.

mod connect;
mod info;
mod list;
mod logs;
mod power;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ksail::{Error, Platform, Power, codes};
use ksail_compiler::format::{Config, Distribution, MirrorEntry, Provider};

use super::{Outcome, apply, destroy, init, plan};
use crate::args::{Format, Global, Time};
use crate::report::Failure;
use crate::terminal;

/// Stop, start, list, show, open and look into clusters; and the names that users of KSail know: init, create, update, delete, diff
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Alias,
}

#[derive(Debug, Subcommand)]
enum Alias {
    /// As `ksail init`, with KSail's flags for the fields of the file
    Init(Box<Init>),
    /// As `ksail apply`; asks only where something would be deleted or replaced
    Create(Box<Change>),
    /// As `ksail apply`; asks only where something would be deleted or replaced
    Update(Box<Change>),
    /// As `ksail destroy`
    Delete(Delete),
    /// As `ksail plan`
    Diff(Box<Diff>),
    /// Stop what runs: nodes, registries, mirrors, the embedded engine. Nothing of it is lost
    Stop(power::Arguments),
    /// Start what was stopped, and wait until the nodes are ready. Nothing else is changed
    Start(power::Arguments),
    /// List the clusters of the Docker engine, whoever made them
    #[command(visible_alias = "ls")]
    List(list::Arguments),
    /// Tell how the cluster does now: its parts, where they answer, its outputs
    Info(info::Arguments),
    /// Open k9s on the cluster; flags of k9s come after `--`
    Connect(connect::Arguments),
    /// Write what the nodes say into a folder, laid out as by `kind export logs`
    Logs(logs::Arguments),
}

#[derive(Debug, Args)]
struct Init {
    /// The cluster's name; the folder's, if it is not given
    #[arg(long)]
    name: Option<String>,
    /// The folder to write into
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    /// spec.cluster.connection.timeout
    #[arg(long, value_name = "TIME")]
    timeout: Option<Time>,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    apply: apply::Arguments,
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// As --auto-approve: do not ask where something is deleted or replaced either
    #[arg(long)]
    force: bool,
    /// As `ksail plan`: only show what would be done
    #[arg(long, conflicts_with = "plan")]
    dry_run: bool,
    /// As --format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// How long each step takes is told anyway
    #[arg(long, hide = true)]
    benchmark: bool,
    /// There is no timer: see the error
    #[arg(long, hide = true)]
    ttl: Option<String>,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    destroy: destroy::Arguments,
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// spec.cluster.provider
    #[arg(long, value_parser = provider)]
    provider: Option<Provider>,
    /// As --auto-approve
    #[arg(long)]
    force: bool,
    /// Volumes are deleted anyway: they are in the plan
    #[arg(long, hide = true)]
    delete_storage: bool,
}

#[derive(Debug, Args)]
struct Diff {
    #[command(flatten)]
    plan: plan::Arguments,
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// As --detailed-exitcode
    #[arg(long)]
    exit_code: bool,
    /// As --format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    fields: Fields,
}

/// Flags for fields of the file. Each is what `--set PATH=VALUE` is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fields of the file")]
struct Fields {
    /// spec.cluster.distribution
    #[arg(long, value_parser = distribution)]
    distribution: Option<Distribution>,
    /// spec.cluster.provider
    #[arg(long, value_parser = provider)]
    provider: Option<Provider>,
    /// spec.cluster.distributionConfig
    #[arg(long, value_name = "PATH")]
    distribution_config: Option<String>,
    /// spec.cluster.connection.kubeconfig
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// spec.cluster.connection.context
    #[arg(long)]
    context: Option<String>,
    /// spec.cluster.cni
    #[arg(long)]
    cni: Option<String>,
    /// spec.cluster.csi
    #[arg(long)]
    csi: Option<String>,
    /// spec.cluster.cdi
    #[arg(long)]
    cdi: Option<String>,
    /// spec.cluster.metricsServer
    #[arg(long)]
    metrics_server: Option<String>,
    /// spec.cluster.loadBalancer
    #[arg(long)]
    load_balancer: Option<String>,
    /// spec.cluster.certManager
    #[arg(long)]
    cert_manager: Option<String>,
    /// spec.cluster.imageVerification
    #[arg(long)]
    image_verification: Option<String>,
    /// spec.cluster.policyEngine
    #[arg(long)]
    policy_engine: Option<String>,
    /// spec.cluster.gitOpsEngine
    #[arg(long)]
    gitops_engine: Option<String>,
    /// spec.cluster.localRegistry.registry
    #[arg(long, value_name = "HOST")]
    local_registry: Option<String>,
    /// spec.mirrors: `[user:${TOKEN}@]host[=upstream]`; may be repeated, or several between commas
    #[arg(long = "mirror-registry", value_name = "MIRROR", value_delimiter = ',')]
    mirrors: Vec<String>,
    /// spec.cluster.controlPlanes
    #[arg(long, value_name = "N")]
    control_planes: Option<u32>,
    /// spec.cluster.workers
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// spec.cluster.kubernetesVersion
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// spec.cluster.importImages
    #[arg(long, value_name = "FILE")]
    import_images: Option<String>,
    /// spec.workload.sourceDirectory
    #[arg(long, value_name = "DIR")]
    source_directory: Option<String>,
    /// spec.editor
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Alias::Init(arguments) => write(global, arguments),
        Alias::Create(arguments) => change(global, arguments),
        Alias::Update(arguments) => change(global, arguments),
        Alias::Delete(arguments) => delete(global, arguments),
        Alias::Diff(arguments) => diff(global, arguments),
        Alias::Stop(arguments) => power::run(global, arguments, Power::Off),
        Alias::Start(arguments) => power::run(global, arguments, Power::On),
        Alias::List(arguments) => list::run(global, arguments),
        Alias::Info(arguments) => info::run(global, arguments),
        Alias::Connect(arguments) => connect::run(global, arguments),
        Alias::Logs(arguments) => logs::run(global, arguments),
    }
}

fn write(global: &Global, arguments: &Init) -> Outcome {
    let Init { name, output, force, timeout, fields } = arguments;
    let mut global = global.clone();
    if let Some(folder) = output {
        global.chdir = global.chdir.join(folder);
    }
    let mut options = init::options(&global, name.as_deref());
    options.provider = fields.provider.unwrap_or(options.provider);
    options.distribution = fields.distribution.unwrap_or(options.distribution);
    options.fields = fields.given();
    if let Some(timeout) = timeout {
        options.fields.push(("spec.cluster.connection.timeout".to_owned(), format!("{}s", timeout.0.as_secs())));
    }
    if !fields.mirrors.is_empty() {
        options.mirrors = fields.mirrors.iter().map(|text| mirror(text)).collect();
    }
    init::write(&global, &options, *force)
}

fn change(global: &Global, arguments: &Change) -> Outcome {
    if arguments.ttl.is_some() {
        let message = "ksail has no timer that deletes what --ttl bounds";
        let hint = "leave --ttl out, and let the pipeline's last step or cron run `ksail destroy --auto-approve`";
        return Err(Error::new(codes::USAGE, message, hint).into());
    }
    let has_plan = arguments.apply.plan.is_some();
    let sets = arguments.name.is_some() || !arguments.fields.is_empty();
    if has_plan && sets {
        let message = "the plan says already what is applied: flags for fields of the file go with planning";
        return Err(
            Error::new(codes::USAGE, message, "ksail plan --set PATH=VALUE --out FILE, then ksail apply FILE").into()
        );
    }
    let global = arguments.fields.over(global, arguments.name.as_deref(), arguments.output)?;
    if arguments.dry_run {
        let flags = arguments.apply.select.clone();
        let only_shown =
            plan::Arguments { flags, out: None, detailed_exitcode: false, destroy: false, refresh_only: false };
        return plan::run(&global, &only_shown);
    }
    if sets && !global.quiet && !global.is_json() {
        terminal::note("note: flags for fields count for this run; ksail.yaml keeps what later runs shall know");
    }
    let apply::Arguments { plan, select, flags } = &arguments.apply;
    let mut flags = flags.clone();
    flags.auto_approve |= arguments.force;
    flags.asks_for_losses_only = true;
    apply::run(&global, &apply::Arguments { plan: plan.clone(), select: select.clone(), flags })
}

fn delete(global: &Global, arguments: &Delete) -> Outcome {
    let mut global = global.clone();
    global.set.extend(name_set(arguments.name.as_deref()));
    global.set.extend(arguments.provider.map(|provider| format!("spec.cluster.provider={provider}")));
    let destroy::Arguments { select, flags } = &arguments.destroy;
    let mut flags = flags.clone();
    flags.auto_approve |= arguments.force;
    destroy::run(&global, &destroy::Arguments { select: select.clone(), flags })
}

fn diff(global: &Global, arguments: &Diff) -> Outcome {
    let global = arguments.fields.over(global, arguments.name.as_deref(), arguments.output)?;
    let mut plan = arguments.plan.clone();
    plan.detailed_exitcode |= arguments.exit_code;
    plan::run(&global, &plan)
}

impl Fields {
    /// Paths and values of all that was given but provider, distribution and mirrors, as YAML reads them.
    fn given(&self) -> Vec<(String, String)> {
        let texts = [
            ("spec.cluster.distributionConfig", &self.distribution_config),
            ("spec.cluster.connection.kubeconfig", &self.kubeconfig),
            ("spec.cluster.connection.context", &self.context),
            ("spec.cluster.localRegistry.registry", &self.local_registry),
            ("spec.cluster.kubernetesVersion", &self.kubernetes_version),
            ("spec.cluster.importImages", &self.import_images),
            ("spec.workload.sourceDirectory", &self.source_directory),
            ("spec.editor", &self.editor),
        ];
        // Words stand without quotes, so that `true` and `false` are taken as the file takes them.
        let words = [
            ("spec.cluster.cni", &self.cni),
            ("spec.cluster.csi", &self.csi),
            ("spec.cluster.cdi", &self.cdi),
            ("spec.cluster.metricsServer", &self.metrics_server),
            ("spec.cluster.loadBalancer", &self.load_balancer),
            ("spec.cluster.certManager", &self.cert_manager),
            ("spec.cluster.imageVerification", &self.image_verification),
            ("spec.cluster.policyEngine", &self.policy_engine),
            ("spec.cluster.gitOpsEngine", &self.gitops_engine),
        ];
        let numbers = [("spec.cluster.controlPlanes", self.control_planes), ("spec.cluster.workers", self.workers)];
        let is_word = |text: &String| text.chars().all(|c| c.is_ascii_alphanumeric());
        let word = |text: &String| if is_word(text) { text.clone() } else { quoted(text) };
        let texts = texts.into_iter().filter_map(|(path, text)| Some((path, quoted(text.as_ref()?))));
        let words = words.into_iter().filter_map(|(path, text)| Some((path, word(text.as_ref()?))));
        let numbers = numbers.into_iter().filter_map(|(path, number)| Some((path, number?.to_string())));
        texts.chain(words).chain(numbers).map(|(path, value)| (path.to_owned(), value)).collect()
    }

    fn is_empty(&self) -> bool {
        self.distribution.is_none() && self.provider.is_none() && self.mirrors.is_empty() && self.given().is_empty()
    }

    /// The global flags with those for fields as further `--set`.
    fn over(&self, global: &Global, name: Option<&str>, output: Option<Format>) -> Result<Global, Failure> {
        let mut global = global.clone();
        global.format = output.unwrap_or(global.format);
        global.set.extend(name_set(name));
        global.set.extend(self.distribution.map(|word| format!("spec.cluster.distribution={word}")));
        global.set.extend(self.provider.map(|word| format!("spec.cluster.provider={word}")));
        global.set.extend(self.given().into_iter().map(|(path, value)| format!("{path}={value}")));
        if !self.mirrors.is_empty() {
            let platform = Platform::open(global.settings())?;
            global.set.extend(mirror_sets(platform.config(), &self.mirrors));
        }
        Ok(global)
    }
}

pub(super) fn name_set(name: Option<&str>) -> Option<String> {
    name.map(|name| format!("metadata.name={}", quoted(name)))
}

/// Mirrors that are added to those of the file; one for a host that has its mirror there changes that.
fn mirror_sets(config: &Config, texts: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = config.spec.mirrors.iter().map(|mirror| mirror.host.clone()).collect();
    let mut sets = Vec::new();
    for text in texts {
        let MirrorEntry { host, upstream, username, password, .. } = mirror(text);
        let index = hosts.iter().position(|have| *have == host).unwrap_or_else(|| {
            hosts.push(host.clone());
            sets.push(format!("spec.mirrors[{}].host={}", hosts.len() - 1, quoted(&host)));
            hosts.len() - 1
        });
        for (key, value) in [("upstream", upstream), ("username", username), ("password", password)] {
            sets.extend(value.map(|value| format!("spec.mirrors[{index}].{key}={}", quoted(&value))));
        }
    }
    sets
}

/// Reads `[user:password@]host[=upstream]`. What is no host, and a password that is no `${VAR}`, the file's own rules refuse.
fn mirror(text: &str) -> MirrorEntry {
    let (place, upstream) = match text.split_once('=') {
        Some((place, upstream)) => (place, Some(upstream.to_owned())),
        None => (text, None),
    };
    let (user, host) = match place.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((name, password)) => {
            (Some(name.to_owned()), Some(password.to_owned()).filter(|password| !password.is_empty()))
        }
        None => (None, None),
    };
    MirrorEntry { host: host.to_owned(), upstream, username, password, port: None }
}

/// Lines of cells as columns of equal width.
fn table<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text that YAML takes for nothing else.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn distribution(text: &str) -> Result<Distribution, String> {
    word(text, Distribution::ALL, |word| word.as_str())
}

fn provider(text: &str) -> Result<Provider, String> {
    word(text, Provider::ALL, |word| word.as_str())
}

/// One of the words that a field takes, without regard to case.
fn word<T: Copy>(text: &str, all: &[T], as_str: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|word| as_str(*word).eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|word| as_str(*word)).collect();
        format!("it is one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use ksail_compiler::format::{Config, MirrorEntry};

    use super::{mirror, mirror_sets};

    #[test]
    fn mirrors_are_read_as_ksail_writes_them() {
        let check = |text: &str, wanted: [Option<&str>; 4]| {
            let MirrorEntry { host, upstream, username, password, .. } = mirror(text);
            let told = [Some(host), upstream, username, password];
            assert_eq!(told, wanted.map(|text| text.map(str::to_owned)), "{text}");
        };
        check("docker.io", [Some("docker.io"), None, None, None]);
        check("ghcr.io=https://ghcr.io", [Some("ghcr.io"), Some("https://ghcr.io"), None, None]);
        check("me:${T}@r.example:5000", [Some("r.example:5000"), None, Some("me"), Some("${T}")]);
        check("me@ghcr.io=https://x", [Some("ghcr.io"), Some("https://x"), Some("me"), None]);
    }

    #[test]
    fn mirrors_are_added_to_those_of_the_file() {
        let mut config = Config::default();
        config.spec.mirrors = vec![mirror("docker.io"), mirror("ghcr.io")];
        let sets = mirror_sets(&config, &["quay.io".to_owned(), "ghcr.io=https://x".to_owned()]);
        assert_eq!(sets, ["spec.mirrors[2].host=\"quay.io\"", "spec.mirrors[1].upstream=\"https://x\""]);
    }
}
