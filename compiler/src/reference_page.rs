//! The reference page of the file, made from the types.

use std::fmt::Write as _;

use crate::shape::{Field, ROOT, Shape};
use crate::standing::{Standing, standing};

const INTRODUCTION: &str = "\
# The file `ksail.yaml`

<!-- Generated from the types. Regenerate: UPDATE_GENERATED=1 cargo test -p ksail-compiler -->

One file describes one cluster and what belongs to it. The format is `ksail.io/v1alpha1`, kind `Cluster`: files that KSail's users have
are read as they are, and the sections `mirrors`, `images`, `manifests`, `nodes`, `state`, `requiredVersion`, `lifecycle`, `moved`, `removed` and `imports` stand
beside them, as does `provider.embedded`. `schema/ksail.schema.json` is the same as a JSON Schema for editors.

```yaml
apiVersion: ksail.io/v1alpha1
kind: Cluster
metadata:
  name: dev
spec:
  cluster:
    provider: Embedded
    distribution: None
    localRegistry:
      registry: localhost:5050
  mirrors:
    - host: docker.io
    - host: ghcr.io
```

## How it is read

- Keys are exact. A key that the format does not have is an error that names the nearest one, and so is a key that stands twice. All errors of
  a file are told at once.
- Words such as `Vanilla` are matched without regard to case. Fields that take `Enabled` and `Disabled` also take `true` and `false`.
- An explicit `null` is the same as leaving the field out.
- Anchors, aliases and `<<` are followed. A file holds one document of at most 1 MiB.
- Texts that look like numbers need quotes: `kubernetesVersion: \"1.34\"`.

## Environments

`--environment NAME` takes `ksail.NAME.yaml` beside `ksail.yaml`.

- If it has `apiVersion`, `kind` and `spec`, it is complete and **stands alone**; `ksail.yaml` is not read.
- Otherwise it is **laid over** `ksail.yaml`: maps merge key by key; lists and single values replace what was there; `null` takes a key
  away.

Which of the two was done is printed. The environment is part of the stack's name (`dev.NAME`), so each has a state of its own.

`--set path=value` comes last and may stand several times: `--set spec.cluster.provider=Docker`, `--set spec.mirrors[0].host=quay.io`. The value
is YAML (`--set 'spec.cluster.localRegistry={registry: localhost:5050}'`); an empty one or `null` takes the field away; the position after
a list's last appends. Paths begin at the top of the file.

## Variables

`${NAME}` in a value stands for an environment variable, `${NAME:-default}` has a default. A variable that is set but empty wins over the
default. One that is not set and has no default stands for empty text, with a warning. `$${` is a literal `${`; every other `$` is itself. Keys
hold no variables.

**In a credential's place** the rules are stricter. Such places are `password` and `username` of a mirror, and what stands before `@` in a URL or
registry. There the value stays a reference: it is in no plan, no state and no message. A password must be references only, without a
default; a user name may be plain text. A variable that is not set is an error when planning.

## Addresses

`lifecycle`, `moved`, `removed` and `imports` name resources by address: `<cluster>/<kind>/<name>`, such as `dev/registry/local` or
`dev/volume/mirror-docker.io`. The cluster may be left out. `/` within a name is written `%2F`; names of images may be written plainly.

## Fields

**Built** says what this version does with a field: *yes*; *in part*, with the words that are built; *not yet*, where `validate` warns and `plan` refuses
values that ask for something; *no effect*, where the field is read and checked and changes nothing yet.
";

/// The reference page of the file, as Markdown.
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, "", "The top of the file.", &ROOT);
    page
}

fn section(page: &mut String, path: &str, description: &str, shape: &Shape) {
    let (Shape::Map(fields) | Shape::TextOrMap(fields)) = shape else { return };
    let title = if path.is_empty() { "Top".to_owned() } else { format!("`{path}`") };
    let _ = writeln!(
        page,
        "\n### {title}\n\n{description}\n\n| Field | Type | Default | Built | Meaning |\n|---|---|---|---|---|"
    );
    for field in fields {
        let below = join(path, &field.name);
        let _ = writeln!(
            page,
            "| `{}`{} | {} | {} | {} | {} |",
            field.name,
            if field.required { " (required)" } else { "" },
            cell(&type_text(&field.shape)),
            cell(field.default.as_deref().unwrap_or_default()),
            built(&below, &field.shape),
            cell(&field.description),
        );
    }
    for Field { name, shape, description, .. } in fields {
        let below = join(path, name);
        match shape {
            Shape::Map(_) => section(page, &below, description, shape),
            Shape::List(element) if matches!(**element, Shape::TextOrMap(_)) => {
                let description = format!("{description} An entry that is a text is its `path`.");
                section(page, &format!("{below}[]"), &description, element);
            }
            Shape::List(element) => section(page, &format!("{below}[]"), description, element),
            _ => {}
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn built(path: &str, shape: &Shape) -> String {
    match (standing(path), shape) {
        // A map of fields says nothing itself.
        (_, Shape::Map(_)) => String::new(),
        (Standing::Built, _) => "yes".to_owned(),
        (Standing::Partly(words), _) => format!("in part: {words}"),
        (Standing::NotYet, _) => "not yet".to_owned(),
        (Standing::NoEffect, _) => "no effect".to_owned(),
    }
}

fn type_text(shape: &Shape) -> String {
    match shape {
        Shape::Map(_) | Shape::Open => "map".to_owned(),
        Shape::TextOrMap(_) => "text, or map".to_owned(),
        Shape::Table(values) => format!("map of {}", type_text(values)),
        Shape::List(element) => format!(
            "list of {}",
            match **element {
                Shape::Map(_) => "maps".to_owned(),
                Shape::TextOrMap(_) => "texts or maps".to_owned(),
                _ => type_text(element),
            }
        ),
        Shape::OneOrMany(element) => format!("{}, or a list of them", type_text(element)),
        Shape::Text { pattern: Some(pattern), .. } => format!("text: {}", pattern.form),
        Shape::Text { .. } => "text".to_owned(),
        Shape::Word { words, .. } => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Integer { min: Some(min), max: Some(max) } => format!("integer, {min} to {max}"),
        Shape::Integer { min: Some(min), .. } => format!("integer, at least {min}"),
        Shape::Integer { .. } => "integer".to_owned(),
        Shape::Boolean => "`true`, `false`".to_owned(),
        Shape::Unknown => String::new(),
    }
}
