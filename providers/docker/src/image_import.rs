//! Images of an archive in a machine, for what runs there: put into its containerd, which keeps them on the machine's volume.

use std::collections::BTreeMap;

use ksail_kinds::{ImageImportSpec, Spec as _};
use ksail_model::{Mark, Observation, Path, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, Target, UpdateRequest};

use crate::archive;
use crate::call::Call;
use crate::exec::{look, run};
use crate::image::Files;
use crate::network::cause_of;
use crate::node_images::{self, import};
use crate::steps::FOLDER;
use crate::written::Written;

pub(crate) const KIND: &str = ImageImportSpec::KIND;
/// The file in which it stands what was put into the machine, and for whom.
const FILE: &str = "images";
/// The digests of the images.
const IMAGES: &str = "images";
/// How many lines of what was said a failure tells.
const TOLD: usize = 4;

fn what_of(machine: &str) -> String {
    format!("the images of `{machine}`")
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<ImageImportSpec, CallError> {
    ImageImportSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

/// What is seen: of the images that were put there, those that are there still.
pub(crate) async fn observe(call: &Call, machine: &str) -> Result<Observation, CallError> {
    let what = format!("look at {}", what_of(machine));
    let program = format!("cat {FOLDER}/{FILE} 2>/dev/null || exit 100\necho\n{}", node_images::LIST);
    let Some(output) = look(call, machine, &what, &["sh", "-c", &program]).await? else {
        return Ok(Observation::Absent);
    };
    let (line, listed) = output.stdout.split_once('\n').unwrap_or((&output.stdout, ""));
    let written = Written::read(line);
    let (written, readiness) = match (output.code, written) {
        (100, _) | (_, None) => return Ok(Observation::Absent),
        (0, Some(written)) => (among(written, &node_images::parse(listed)), Readiness::Ready),
        (101, Some(written)) => {
            let why = format!("its containerd does not answer: {}", output.end(1));
            (written, Readiness::NotReady(why))
        }
        (_, Some(_)) => return Err(call.refused(&what, &output.end(TOLD))),
    };
    Ok(Observation::Present(Box::new(Seen {
        id: Some(machine.to_owned()),
        mark: Some(written.mark("")),
        fields: written.spec,
        attributes: Value::empty_map(),
        readiness,
        others: Vec::new(),
    })))
}

/// What was written, of which only that counts which the machine has.
fn among(mut written: Written, there: &BTreeMap<String, String>) -> Written {
    let images = written.spec.field(IMAGES).and_then(Value::as_map);
    let names: Vec<String> = images.into_iter().flat_map(|images| images.keys()).map(ToString::to_string).collect();
    let found = names.into_iter().filter_map(|name| there.get(&name).map(|digest| (name, digest.as_str())));
    let found = Value::map(found.collect::<Vec<_>>());
    written.spec.set(&Path::key(IMAGES), found);
    written
}

pub(crate) async fn create(
    call: &Call,
    machine: &str,
    request: &CreateRequest,
    spec: &Value,
    files: &Files<'_>,
) -> Result<Seen, CallError> {
    if let Observation::Present(found) = observe(call, machine).await? {
        let found = crate::ownership::Found { id: machine, mark: found.mark.as_ref() };
        crate::ownership::may_complete(&what_of(machine), &found, &request.mark)?;
    }
    bring(call, machine, &request.mark, spec, files).await
}

pub(crate) async fn update(
    call: &Call,
    machine: &str,
    request: &UpdateRequest,
    spec: &Value,
    files: &Files<'_>,
) -> Result<Seen, CallError> {
    bring(call, machine, &request.mark, spec, files).await
}

/// Puts into the machine what it lacks of the images, and then writes down that it has them.
async fn bring(call: &Call, machine: &str, mark: &Mark, spec: &Value, files: &Files<'_>) -> Result<Seen, CallError> {
    let what = what_of(machine);
    let wanted = typed(call, &what, spec)?;
    let doing = format!("bring {what}");
    let there = node_images::list(call, machine, &doing).await?;
    let there = there.ok_or_else(|| call.refused(&doing, "its machine has no container").hint("plan again"))?;
    let missing = wanted.images.iter().filter(|(name, digest)| there.get(*name) != Some(digest));
    let missing: Vec<(&String, &String)> = missing.collect();
    if !missing.is_empty() {
        let path = files.project.join(&wanted.path);
        let archive = archive::open(call, &doing, &path).await?;
        for (name, digest) in &missing {
            archive::check(&format!("{doing}: {}", path.display()), &archive, name, digest)?;
        }
        let names = missing.into_iter().map(|(name, _)| name.clone()).collect();
        import(call, machine, &doing, archive, names).await?;
    }
    let written = Written::new(mark, spec, None).line();
    let program = format!(
        r#"set -eu; mkdir -p {FOLDER}; printf %s "$1" >{FOLDER}/{FILE}.new; sync {FOLDER}/{FILE}.new; mv {FOLDER}/{FILE}.new {FOLDER}/{FILE}"#
    );
    let output = run(call, machine, &doing, &["sh", "-c", &program, "sh", &written], "").await?;
    if !output.is_success() {
        return Err(call.refused(&doing, &output.end(TOLD)));
    }
    seen(call, machine, &what).await
}

async fn seen(call: &Call, machine: &str, what: &str) -> Result<Seen, CallError> {
    match observe(call, machine).await? {
        Observation::Present(seen) => Ok(*seen),
        _ => Err(CallError::indeterminate(format!("{what} on the engine at {} are gone", call.place()))),
    }
}

pub(crate) async fn wait(call: &Call, machine: &str, target: &Target) -> Result<Seen, CallError> {
    match observe(call, machine).await? {
        Observation::Present(seen) => Ok(*seen),
        _ => {
            let what = format!("wait for {}", what_of(machine));
            Err(call.refused(&what, &format!("it is not there: {}", target.address)).hint("plan again"))
        }
    }
}

/// Lets the images be what they are: pods may run of them, and the machine may have had them before.
pub(crate) async fn release(call: &Call, machine: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = what_of(machine);
    let Observation::Present(found) = observe(call, machine).await? else { return Ok(Deleted::WasAbsent) };
    let found = crate::ownership::Found { id: machine, mark: found.mark.as_ref() };
    if !crate::ownership::may_delete(&what, &found, request)? {
        return Ok(Deleted::WasAbsent);
    }
    let output = run(call, machine, &format!("release {what}"), &["rm", "-f", &format!("{FOLDER}/{FILE}")], "").await?;
    if output.is_success() { Ok(Deleted::Released) } else { Err(call.refused(&what, &output.end(TOLD))) }
}

#[cfg(test)]
mod tests {
    use ksail_model::Address;

    use super::*;

    #[test]
    fn what_the_machine_has_not_any_more_is_not_seen() {
        let images = Value::map([("a:1", "sha256:aa"), ("b:1", "sha256:bb"), ("c:1", "sha256:cc")]);
        let spec = Value::map([("path", Value::from("images.tar")), (IMAGES, images)]);
        let mark = Mark {
            lineage: "l".to_owned(),
            address: Address::new("dev", KIND, &["worker-0"]),
            operation: String::new(),
            generation: 1,
        };
        let there = [("a:1", "sha256:aa"), ("b:1", "sha256:other"), ("d:1", "sha256:dd")];
        let there = there.map(|(name, digest)| (name.to_owned(), digest.to_owned())).into();
        let seen = among(Written::new(&mark, &spec, None), &there).spec;
        let images = Value::map([("a:1", "sha256:aa"), ("b:1", "sha256:other")]);
        assert_eq!(seen, Value::map([("path", Value::from("images.tar")), (IMAGES, images)]));
    }
}
