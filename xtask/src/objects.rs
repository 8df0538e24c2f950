//! `cargo xtask objects`: objects on a real API server, by ksail, by `kubectl apply --server-side`, and by the least that a client
//! can do, in turn.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::bench::measure::{Error, Taken, child};

/// Connections of the least client.
const CONNECTIONS: usize = 16;

/// Arguments of `objects`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many objects.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    sizes: Vec<usize>,
    /// How often each is measured; the least counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The cluster (`testbed/kubernetes.sh env` sets it).
    #[arg(long, env = "KSAIL_TEST_KUBECONFIG")]
    kubeconfig: PathBuf,
    /// kubectl of the cluster's version; left out, it is not measured.
    #[arg(long, env = "KSAIL_TEST_KUBECTL")]
    kubectl: Option<PathBuf>,
    /// The binary that is measured; left out, that of `target/release`.
    #[arg(long)]
    ksail: Option<PathBuf>,
}

/// Arguments of `applies`.
#[derive(Debug, clap::Args)]
pub(crate) struct Applies {
    /// How many objects.
    #[arg(long, default_value_t = 10_000)]
    size: usize,
    /// How often each server is measured, in turn; the least counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The servers.
    #[arg(long, required = true)]
    kubeconfig: Vec<PathBuf>,
}

/// Measures servers by what the least client can do, in turn, and prints how many applies a second each takes.
pub(crate) fn applies(arguments: &Applies) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Runtime::new().map_err(|source| Error::io("start", Path::new("tokio"), source))?;
    let mut best = vec![f64::INFINITY; arguments.kubeconfig.len()];
    for round in 0..arguments.rounds {
        for (kubeconfig, best) in arguments.kubeconfig.iter().zip(&mut best) {
            let name = format!("bench-applies-{}-{round}", std::process::id());
            *best = best.min(runtime.block_on(floor(kubeconfig, &name, arguments.size))?);
        }
    }
    let mut table = String::from("| server | applies | took | a second |\n|---|---:|---:|---:|\n");
    for (kubeconfig, ms) in arguments.kubeconfig.iter().zip(&best) {
        let size = f64::from(u32::try_from(arguments.size).unwrap_or(u32::MAX));
        let second = size / ms * 1000.0;
        let shown = kubeconfig.display();
        let _ = writeln!(table, "| {shown} | {} | {:.2} s | {second:.0} |", arguments.size, ms / 1000.0);
    }
    let _ = write!(std::io::stdout(), "{table}");
    Ok(ExitCode::SUCCESS)
}

/// Measures, and prints a table.
pub(crate) fn run(arguments: &Arguments, target: &Path) -> Result<ExitCode, Error> {
    let work = target.join("bench-objects");
    let ksail = arguments.ksail.clone().unwrap_or_else(|| target.join("release/ksail"));
    let runtime = tokio::runtime::Runtime::new().map_err(|source| Error::io("start", Path::new("tokio"), source))?;
    let mut table = String::from(
        "| objects | floor | ksail apply | × floor | kubectl | × faster | plan without changes | its memory | destroy |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for &size in &arguments.sizes {
        let mut best = [f64::INFINITY; 5];
        let mut memory = u64::MAX;
        for round in 0..arguments.rounds {
            let name = |who: &str| format!("bench-{who}-{size}-{round}");
            let project = project(&work, &name("ksail"), size)?;
            let run = |arguments_of: &[&str]| -> Result<Taken, Error> {
                let mut command = Command::new(&ksail);
                command.arg("-C").arg(&project).args(arguments_of).env("KUBECONFIG", &arguments.kubeconfig);
                child(&mut command, &work)
            };
            let floor = runtime.block_on(floor(&arguments.kubeconfig, &name("floor"), size))?;
            let apply = run(&["apply", "--auto-approve"])?;
            let plan = run(&["plan", "--detailed-exitcode"])?;
            let destroy = run(&["destroy", "--auto-approve"])?;
            let kubectl = match &arguments.kubectl {
                Some(kubectl) => by_kubectl(kubectl, arguments, &work, &name("kubectl"), size)?,
                None => f64::NAN,
            };
            let took = [floor, apply.wall_ms, kubectl, plan.wall_ms, destroy.wall_ms];
            for (best, took) in best.iter_mut().zip(took) {
                *best = best.min(took);
            }
            memory = memory.min(plan.max_rss_bytes);
        }
        let [floor, apply, kubectl, plan, destroy] = best.map(|ms| ms / 1000.0);
        let _ = writeln!(
            table,
            "| {size} | {floor:.2} s | {apply:.2} s | {:.2} | {kubectl:.1} s | {:.1} | {plan:.2} s | {} MB | {destroy:.2} s |",
            apply / floor,
            kubectl / apply,
            memory / 1_000_000,
        );
    }
    let _ = write!(std::io::stdout(), "{table}");
    Ok(ExitCode::SUCCESS)
}

fn object(namespace: &str, index: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{index}, namespace: {namespace}, labels: {{app: a{}}}}}\n\
         data: {{index: '{index}', text: some text of the object {index}, more: 'true'}}\n",
        index % 10
    )
}

/// The same as an apply of ksail sends it: as JSON, with a mark.
fn as_sent(namespace: &str, index: usize) -> String {
    let id = format!("{index:032x}");
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": format!("c{index}"), "namespace": namespace,
            "labels": {"app": format!("a{}", index % 10), "ksail.io/lineage": &id},
            "annotations": {
                "ksail.io/address": format!("many/configmap/{namespace}/c{index}"), "ksail.io/generation": "1", "ksail.io/operation": &id,
            },
        },
        "data": {"index": index.to_string(), "text": format!("some text of the object {index}"), "more": "true"},
    })
    .to_string()
}

fn manifest(namespace: &str, size: usize) -> String {
    let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    for index in 0..size {
        let _ = write!(text, "---\n{}", object(namespace, index));
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::io("write", path, source))
}

fn project(work: &Path, name: &str, size: usize) -> Result<PathBuf, Error> {
    let project = work.join(name);
    if project.exists() {
        fs::remove_dir_all(&project).map_err(|source| Error::io("remove", &project, source))?;
    }
    fs::create_dir_all(&project).map_err(|source| Error::io("make", &project, source))?;
    let file = "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {name: bench}\nspec:\n  \
                cluster: {distribution: None, provider: Kubernetes}\n  manifests: [all.yaml]\n";
    write(&project.join("ksail.yaml"), file)?;
    write(&project.join("all.yaml"), &manifest(name, size))?;
    Ok(project)
}

fn by_kubectl(kubectl: &Path, arguments: &Arguments, work: &Path, name: &str, size: usize) -> Result<f64, Error> {
    let file = work.join("kubectl.yaml");
    write(&file, &manifest(name, size))?;
    let run = |more: &[&str]| {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(&arguments.kubeconfig).args(more);
        child(&mut command, work)
    };
    let took = run(&["apply", "--server-side", "-f", &file.display().to_string()])?;
    run(&["delete", "namespace", name, "--wait=true"])?;
    Ok(took.wall_ms)
}

/// The same applies from 16 connections that are kept open, and nothing else. The namespace is made and deleted outside of the time.
async fn floor(kubeconfig: &Path, namespace: &str, size: usize) -> Result<f64, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::io("ask", kubeconfig, std::io::Error::other(error.to_string()));
    let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| failed(&error))?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.map_err(|error| failed(&error))?;
    let client = kube::Client::try_from(config).map_err(|error| failed(&error))?;
    let ask = |method: &'static str, path: String, body: String| {
        let client = client.clone();
        async move {
            let request = http::Request::builder()
                .method(method)
                .uri(format!("{path}?fieldManager=floor&fieldValidation=Ignore&force=false"))
                .header("content-type", "application/apply-patch+yaml")
                .body(body.into_bytes());
            client.request_text(request.map_err(kube::Error::HttpError)?).await
        }
    };
    let root = format!("/api/v1/namespaces/{namespace}");
    let of = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    ask("PATCH", root.clone(), of).await.map_err(|error| failed(&error))?;
    let began = Instant::now();
    let applies = (0..size).map(|index| ask("PATCH", format!("{root}/configmaps/c{index}"), as_sent(namespace, index)));
    let all = futures::stream::iter(applies).buffer_unordered(CONNECTIONS).try_for_each(|_| async { Ok(()) });
    all.await.map_err(|error| failed(&error))?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    ask("DELETE", root, String::new()).await.map_err(|error| failed(&error))?;
    Ok(took)
}
