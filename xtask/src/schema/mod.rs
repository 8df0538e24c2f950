//! `cargo xtask kubernetes-schema`: what a real API server says of its types, reduced to the committed file of
//! `kubernetes-schema/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};

use crate::bench::measure::Error;

/// The committed file, from the root of the checkout.
const FILE: &str = "kubernetes-schema/data/kubernetes.json";
/// What an aggregated discovery document is asked for with.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What a table is asked for with.
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
/// Prints which fields of the published Go types are written when they are zero, which OpenAPI does not say.
const ZEROS: &str = include_str!("zeros.go");

/// Arguments of `kubernetes-schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only compare the committed file with the server.
    #[arg(long)]
    check: bool,
    /// The cluster (`testbed/kubernetes.sh env` sets it).
    #[arg(long, env = "KSAIL_TEST_KUBECONFIG")]
    kubeconfig: PathBuf,
}

/// Generates the file, or compares it.
pub(crate) fn run(arguments: &Arguments, target: &Path) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Runtime::new().map_err(|source| Error::io("start", Path::new("tokio"), source))?;
    let failed = |error: kube::Error| Error::io("ask", &arguments.kubeconfig, std::io::Error::other(error.to_string()));
    let server = runtime.block_on(Server::read(&arguments.kubeconfig)).map_err(failed)?;
    let zeros = zeros(&server.version, &target.join("kubernetes-schema"))?;
    let text = server.file(&zeros);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let path = root.join(FILE);
    let mut out = std::io::stdout();
    if arguments.check {
        let committed = fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
        if committed == text {
            let _ = writeln!(out, "{FILE} is what {} says", server.version);
            return Ok(ExitCode::SUCCESS);
        }
        let differing = committed.lines().zip(text.lines()).find(|(left, right)| left != right);
        let (left, right) = differing.unwrap_or(("(its end)", "(its end)"));
        let shown = |line: &str| line.chars().take(300).collect::<String>();
        let _ = writeln!(
            out,
            "{FILE} is not what {} says, first in\n  committed: {}\n  server:    {}\nhint: run `cargo xtask kubernetes-schema` and commit the file",
            server.version,
            shown(left),
            shown(right),
        );
        return Ok(ExitCode::FAILURE);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| Error::io("make", folder, source))?;
    }
    fs::write(&path, &text).map_err(|source| Error::io("write", &path, source))?;
    let _ = writeln!(out, "{FILE}: {} types, {} bytes", server.types.len(), text.len());
    Ok(ExitCode::SUCCESS)
}

/// What is taken from a server.
struct Server {
    version: String,
    /// The groups in the order of their priority, as the aggregated discovery has them.
    groups: Vec<Value>,
    types: BTreeMap<String, Value>,
    /// `<group>/<version>/<plural>` → the columns of its table.
    columns: BTreeMap<String, Value>,
}

impl Server {
    async fn read(kubeconfig: &Path) -> Result<Self, kube::Error> {
        let config =
            kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| kube::Error::Service(Box::new(error)))?;
        let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await
            .map_err(|error| kube::Error::Service(Box::new(error)))?;
        let client = kube::Client::try_from(config)?;
        let version: Value = get(&client, "/version", "application/json").await?;
        let mut groups = Vec::new();
        for root in ["/api", "/apis"] {
            let list = get(&client, root, AGGREGATED).await?;
            groups.extend(list["items"].as_array().cloned().unwrap_or_default());
        }
        // A test-bed may hold definitions of its own, which are no part of Kubernetes.
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let definitions = get(&client, path, "application/json").await?;
        let defined: Vec<&Value> =
            definitions["items"].as_array().into_iter().flatten().map(|item| &item["spec"]["group"]).collect();
        groups.retain(|group: &Value| !defined.contains(&&group["metadata"]["name"]));
        let mut types = BTreeMap::new();
        let mut columns = BTreeMap::new();
        for group in &mut groups {
            let name = group["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if let Some(metadata) = group["metadata"].as_object_mut() {
                metadata.retain(|key, _| key == "name");
            }
            let versions = group["versions"].as_array_mut().into_iter().flatten();
            for version in versions {
                let at = version["version"].as_str().unwrap_or_default().to_owned();
                if let Some(version) = version.as_object_mut() {
                    version.remove("freshness");
                }
                let root = if name.is_empty() { format!("api/{at}") } else { format!("apis/{name}/{at}") };
                let document = get(&client, &format!("/openapi/v3/{root}"), "application/json").await?;
                if let Some(schemas) = document["components"]["schemas"].as_object() {
                    types.extend(schemas.iter().map(|(name, schema)| (name.clone(), reduced(schema))));
                }
                for resource in version["resources"].as_array().into_iter().flatten() {
                    let lists = resource["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!("list")));
                    let plural = resource["resource"].as_str().unwrap_or_default();
                    if lists {
                        let table = get(&client, &format!("/{root}/{plural}?limit=1"), TABLE).await?;
                        columns.insert(format!("{name}/{at}/{plural}"), column_names(&table));
                    }
                }
            }
        }
        let version = version["gitVersion"].as_str().unwrap_or_default().to_owned();
        Ok(Self { version, groups, types, columns })
    }

    /// One line a group, a type and a table, so that what changes can be seen.
    fn file(&self, zeros: &BTreeMap<String, Value>) -> String {
        let mut text = format!("{{\"version\":{},\n\"groups\":[\n", json!(self.version));
        let lines = |text: &mut String, lines: Vec<String>| {
            text.push_str(&lines.join(",\n"));
            text.push('\n');
        };
        lines(&mut text, self.groups.iter().map(Value::to_string).collect());
        text.push_str("],\n\"types\":{\n");
        let entry = |(name, value): (&String, &Value)| format!("{}:{value}", json!(name));
        lines(&mut text, self.types.iter().map(entry).collect());
        text.push_str("},\n\"zeros\":{\n");
        let known = zeros.iter().filter(|(name, zeros)| {
            self.types.contains_key(*name) && zeros.as_object().is_some_and(|zeros| !zeros.is_empty())
        });
        lines(&mut text, known.map(entry).collect());
        text.push_str("},\n\"columns\":{\n");
        lines(&mut text, self.columns.iter().map(entry).collect());
        let _ = writeln!(text, "}}}}");
        text
    }
}

async fn get(client: &kube::Client, path: &str, accept: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).header("accept", accept).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let text = client.request_text(request).await?;
    serde_json::from_str(&text).map_err(kube::Error::SerdeError)
}

/// A schema without its descriptions.
fn reduced(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| key.as_str() != "description" || !value.is_string());
            Value::Object(kept.map(|(key, value)| (key.clone(), reduced(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(reduced).collect()),
        other => other.clone(),
    }
}

fn column_names(table: &Value) -> Value {
    let columns = table["columnDefinitions"].as_array().into_iter().flatten();
    columns
        .map(|column| {
            let mut kept = Map::new();
            for key in ["name", "type", "format", "priority"] {
                kept.insert(key.to_owned(), column[key].clone());
            }
            Value::Object(kept)
        })
        .collect()
}

/// What the Go types of the server's version say of zero values.
fn zeros(version: &str, work: &Path) -> Result<BTreeMap<String, Value>, Error> {
    let number = version.trim_start_matches("v1.");
    let module = format!(
        "module ksail-xtask/zeros\n\ngo 1.25\n\nrequire (\n\tk8s.io/apiextensions-apiserver v0.{number}\n\
         \tk8s.io/client-go v0.{number}\n\tk8s.io/kube-aggregator v0.{number}\n)\n"
    );
    fs::create_dir_all(work).map_err(|source| Error::io("make", work, source))?;
    for (name, text) in [("go.mod", module.as_str()), ("main.go", ZEROS)] {
        let path = work.join(name);
        fs::write(&path, text).map_err(|source| Error::io("write", &path, source))?;
    }
    let go = |arguments: &[&str]| {
        let output = Command::new("go").args(arguments).current_dir(work).env("GOFLAGS", "-mod=mod").output();
        let output = output.map_err(|source| Error::io("run go in", work, source))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::io("run go in", work, std::io::Error::other(said)))
    };
    go(&["mod", "tidy"])?;
    let printed = go(&["run", "."])?;
    serde_json::from_slice(&printed).map_err(|error| Error::io("read what go printed in", work, error.into()))
}
