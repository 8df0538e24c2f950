//! Writes: create, update, patch, delete; each the same way from what a client sent to what is kept.

mod body;
pub(crate) mod delete;
mod patch;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) use body::{Body, MAX_BODY, Validation};

use crate::api::{self, Api};
use crate::merge::managers::{Managers, Writer};
use crate::registry::Kind;
use crate::status::{Cause, Status};
use crate::store::{Expect, Name, WriteError};
use crate::strategy;
use crate::types::{decode, defaults, names, validate};

/// How often a write is tried when others write the same object.
const MAX_TRIES: usize = 100;

/// Who asks for a write, and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
    pub(crate) validation: Validation,
}

impl Options {
    /// Those of a controller.
    pub(crate) fn controller(name: &str) -> Self {
        Self { manager: name.to_owned(), dry_run: false, force: true, validation: Validation::Ignore }
    }
}

/// An object that a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl Place {
    pub(crate) fn key(&self) -> Name {
        (self.namespace.as_str().into(), self.name.as_str().into())
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.kind.group(), self.kind.plural(), &self.name)
    }
}

/// What a write did.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Value,
    /// 201 if it was created.
    pub(crate) created: bool,
    /// Up to which version the store must be durable before it is answered; 0 if nothing was written.
    pub(crate) version: u64,
    pub(crate) warnings: Vec<String>,
}

/// What a request makes of an object.
pub(crate) enum Made {
    /// A whole object. It replaces what is there.
    Object(Value),
    /// A configuration that is applied server-side.
    Applied(Value),
}

impl Api {
    /// Creates an object.
    pub(crate) fn create(&self, place: &Place, object: Value, options: &Options) -> Result<Written, Status> {
        let mut tries = 0;
        loop {
            let mut place = place.clone();
            let mut object = object.clone();
            if place.name.is_empty() {
                let generated = object["metadata"]["generateName"].as_str().map(str::to_owned);
                if let Some(prefix) = &generated.filter(|prefix| !prefix.is_empty()) {
                    place.name = format!("{prefix}{}", api::suffix());
                    object["metadata"]["name"] = place.name.as_str().into();
                }
            }
            if self.store.get(&place.kind.store, &place.namespace, &place.name).is_some() {
                return Err(Status::already_exists(place.kind.group(), place.kind.plural(), &place.name));
            }
            match self.insert(&place, Made::Object(object), options)? {
                Some(written) => return Ok(written),
                None if tries < MAX_TRIES => tries += 1,
                None => return Err(Status::internal("the object is written by too many at once")),
            }
        }
    }

    /// Changes an object: `make` is given what is there (nothing if it is not) and answers what is to be there. It is called again
    /// when another write came between.
    pub(crate) fn change(
        &self,
        place: &Place,
        options: &Options,
        make: &mut dyn FnMut(Option<&Value>) -> Result<Made, Status>,
    ) -> Result<Written, Status> {
        for _ in 0..MAX_TRIES {
            let entry = self.store.get(&place.kind.store, &place.namespace, &place.name);
            let Some(entry) = entry else {
                let made = make(None)?;
                match self.insert(place, made, options)? {
                    Some(written) => return Ok(written),
                    None => continue,
                }
            };
            let live = place.kind.convert_from_store(entry.object());
            let made = make(Some(&live))?;
            let sent_version = match &made {
                Made::Object(object) | Made::Applied(object) => version_of(object)?,
            };
            if let Some(sent) = sent_version
                && sent != entry.version
            {
                return Err(Status::modified(place.kind.group(), place.kind.plural(), &place.name));
            }
            if let Some(written) = self.replace(place, entry.version, &live, made, options)? {
                return Ok(written);
            }
            if sent_version.is_some() {
                return Err(Status::modified(place.kind.group(), place.kind.plural(), &place.name));
            }
        }
        Err(Status::internal("the object is written by too many at once"))
    }

    /// Inserts an object that is not there; `None` if another did meanwhile.
    fn insert(&self, place: &Place, made: Made, options: &Options) -> Result<Option<Written>, Status> {
        let kind = &place.kind;
        let (mut object, applied) = match made {
            Made::Object(object) => (object, None),
            Made::Applied(applied) => (applied.clone(), Some(applied)),
        };
        self.check_metadata(place, &object)?;
        // An apply with a version creates what is not there all the same.
        if applied.is_none() && version_of(&object)?.is_some() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if let Some(uid) = object["metadata"]["uid"].as_str().filter(|uid| applied.is_some() && !uid.is_empty()) {
            let detail =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(kind.group(), kind.plural(), &place.name, &detail));
        }
        let sent = Managers::sent(&object);
        let mut warnings = body::prepare(kind, &mut object, options.validation, applied.is_some())?;
        if kind.resource.namespaced {
            self.check_namespace(kind.group(), kind.plural(), &place.name, &place.namespace)?;
        }
        let time = api::now();
        {
            let metadata = metadata(&mut object);
            for field in [
                "uid",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
                "resourceVersion",
                "managedFields",
            ] {
                metadata.remove(field);
            }
            metadata.insert("name".to_owned(), place.name.as_str().into());
            if kind.resource.namespaced {
                metadata.insert("namespace".to_owned(), place.namespace.as_str().into());
            } else {
                metadata.remove("namespace");
            }
            metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
            metadata.insert("creationTimestamp".to_owned(), time.as_str().into());
            metadata.remove("generation");
            if strategy::has_generation(kind) {
                metadata.insert("generation".to_owned(), 1.into());
            }
        }
        set_defaults(kind, &mut object);
        // Who wrote what is noted before the server adds its own.
        let mut managers = sent.unwrap_or_default();
        let writer = writer(place, options, &time);
        match applied {
            Some(mut applied) => {
                strip(&mut applied);
                let live = empty(kind, &object);
                managers.apply(&kind.types, kind.of(), &live, &applied, &writer, true)?;
            }
            None => {
                let before = empty(kind, &object);
                managers.update(&kind.types, kind.of(), &before, &object, &writer);
            }
        }
        warnings.extend(self.prepare_create(place, &mut object)?);
        if kind.custom.is_some() {
            // A status that was taken off has its defaults again, as one that is read has.
            set_defaults(kind, &mut object);
        }
        self.validate(place, &object, None)?;
        self.allocate(place, None, &mut object)?;
        managers.write(&mut object);
        if options.dry_run {
            return Ok(Some(Written { object, created: true, version: 0, warnings }));
        }
        kind.convert_to_store(&mut object);
        match self.put(kind, &place.key(), Expect::Absent, &mut object, false) {
            Ok((version, _)) => {
                let object = kind.convert_from_store(object);
                Ok(Some(Written { object, created: true, version, warnings }))
            }
            Err(WriteError::Changed) => Ok(None),
            Err(WriteError::Disk(error)) => Err(Status::internal(error.to_string())),
        }
    }

    /// Replaces an object; `None` if another write came between.
    fn replace(
        &self,
        place: &Place,
        version: u64,
        live: &Value,
        made: Made,
        options: &Options,
    ) -> Result<Option<Written>, Status> {
        let kind = &place.kind;
        let time = api::now();
        let writer = writer(place, options, &time);
        let mut before = live.clone();
        strip(&mut before);
        let mut managers = Managers::of(live);
        let (mut object, applied) = match made {
            Made::Object(mut object) => {
                if let Some(sent) = Managers::sent(&object) {
                    // An empty list resets who manages what; anything else than what is kept is not taken from clients.
                    let reset = object["metadata"]["managedFields"].as_array().is_some_and(|list| {
                        list.is_empty() || list.iter().all(|entry| entry.as_object().is_some_and(Map::is_empty))
                    });
                    managers = if reset { Managers::default() } else { sent };
                }
                self.check_metadata(place, &object)?;
                strip(&mut object);
                (object, false)
            }
            Made::Applied(mut applied) => {
                self.check_metadata(place, &applied)?;
                strip(&mut applied);
                if managers.is_empty() {
                    managers.before_first_apply(&kind.types, kind.of(), &before, &writer);
                }
                (managers.apply(&kind.types, kind.of(), &before, &applied, &writer, options.force)?, true)
            }
        };
        // Clients that send all fields of a type send an empty one.
        let uid = object["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
        if uid.is_some_and(|uid| live["metadata"]["uid"] != uid) {
            let cause = Cause::invalid("metadata.uid", &object["metadata"]["uid"], "field is immutable");
            return Err(Status::invalid(kind.group(), kind.kind(), &place.name, &[cause]));
        }
        let validation = if applied { Validation::Ignore } else { options.validation };
        let mut warnings = body::prepare(kind, &mut object, validation, applied)?;
        set_defaults(kind, &mut object);
        if !applied {
            managers.update(&kind.types, kind.of(), &before, &object, &writer);
        }
        self.keep_fixed(place, &before, &mut object);
        warnings.extend(self.prepare_update(place, &before, &mut object)?);
        let generation = live["metadata"]["generation"].as_i64();
        if let Some(generation) = generation {
            let changed = place.subresource.is_empty() && strategy::bumps_generation(kind, &before, &object)
                || (place.subresource == "scale" && before["spec"] != object["spec"]);
            metadata(&mut object).insert("generation".to_owned(), (generation + i64::from(changed)).into());
        }
        self.validate(place, &object, Some(&before))?;
        self.allocate(place, Some(&before), &mut object)?;
        if object == before {
            managers.keep_times(Managers::of(live));
        }
        managers.write(&mut object);
        metadata(&mut object).insert("resourceVersion".to_owned(), version.to_string().into());
        if object == *live {
            return Ok(Some(Written { object, created: false, version: 0, warnings }));
        }
        if options.dry_run {
            return Ok(Some(Written { object, created: false, version: 0, warnings }));
        }
        let gone = strategy::is_gone(&object);
        let mut kept = object;
        kind.convert_to_store(&mut kept);
        match self.put(kind, &place.key(), Expect::Version(version), &mut kept, gone) {
            Ok((version, _)) => {
                let object = kind.convert_from_store(kept);
                Ok(Some(Written { object, created: false, version, warnings }))
            }
            Err(WriteError::Changed) => Ok(None),
            Err(WriteError::Disk(error)) => Err(Status::internal(error.to_string())),
        }
    }

    /// Writes to the store, and does at once what the next request must see.
    pub(crate) fn put(
        &self,
        kind: &Kind,
        name: &Name,
        expect: Expect,
        object: &mut Value,
        delete: bool,
    ) -> Result<(u64, Bytes), WriteError> {
        let written = self.store.write(&kind.store, name, expect, object, delete)?;
        if &*kind.store == "/services" {
            self.allocation.record(name, (!delete).then_some(object));
        } else if &*kind.store == "apiextensions.k8s.io/customresourcedefinitions" {
            self.load_definitions();
        }
        Ok(written)
    }

    /// Whether the metadata that was sent fits the request.
    fn check_metadata(&self, place: &Place, object: &Value) -> Result<(), Status> {
        let sent = &object["metadata"];
        let text = |name: &str| sent[name].as_str().unwrap_or_default();
        if !text("namespace").is_empty() && text("namespace") != place.namespace && place.kind.resource.namespaced {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !text("name").is_empty() && text("name") != place.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                text("name"),
                place.name
            )));
        }
        Ok(())
    }

    /// Takes what a request cannot change from what is there.
    fn keep_fixed(&self, place: &Place, before: &Value, object: &mut Value) {
        let kind = &place.kind;
        let has_status = kind.has_status();
        match place.subresource.as_str() {
            "status" => {
                let status = object.get("status").cloned();
                let sent = object["metadata"].clone();
                *object = before.clone();
                set_or_remove(object, "status", status);
                // Labels and annotations may be written with the status of most kinds.
                if kind.is_builtin() {
                    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                        set_or_remove(&mut object["metadata"], field, sent.get(field).cloned());
                    }
                }
            }
            // Who binds a pod says in its status that it is scheduled.
            "binding" => {}
            _ if has_status => {
                set_or_remove(object, "status", before.get("status").cloned());
            }
            _ => {}
        }
        let fixed = [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generateName",
            "generation",
            "resourceVersion",
        ];
        for field in fixed {
            set_or_remove(&mut object["metadata"], field, before["metadata"].get(field).cloned());
        }
    }

    /// Gives an object what only one may have.
    fn allocate(&self, place: &Place, before: Option<&Value>, object: &mut Value) -> Result<(), Status> {
        if &*place.kind.store == "/services" && place.subresource.is_empty() {
            self.allocate_service(place, before, object)?;
        }
        Ok(())
    }

    fn validate(&self, place: &Place, object: &Value, before: Option<&Value>) -> Result<(), Status> {
        let kind = &place.kind;
        let mut causes = Vec::new();
        if before.is_none() {
            if place.name.is_empty() {
                causes.push(Cause::required("metadata.name", "name or generateName is required"));
            } else if let Some(wrong) = names::name(kind.group(), kind.plural(), &place.name) {
                causes.push(Cause::invalid("metadata.name", &place.name.as_str().into(), &wrong));
            }
        }
        let changed = |path: &str| before.is_none_or(|before| before.pointer(path) != object.pointer(path));
        if changed("/metadata/labels") {
            names::labels(&object["metadata"]["labels"], "metadata.labels", &mut causes);
        }
        if changed("/metadata/annotations") {
            names::annotations(&object["metadata"]["annotations"], "metadata.annotations", &mut causes);
        }
        if changed("/metadata/finalizers") {
            names::finalizers(&object["metadata"], before.map(|before| &before["metadata"]), &mut causes);
        }
        let same = before.is_some_and(|before| {
            let both = [before, object].map(|of| of.as_object());
            let rest = |of: Option<&Map<String, Value>>| {
                of.into_iter()
                    .flatten()
                    .filter(|(key, _)| *key != "metadata")
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect::<Map<_, _>>()
            };
            let [left, right] = both.map(rest);
            left == right
        });
        if !same {
            if kind.is_builtin() {
                validate::builtin(&kind.types, kind.of(), object, "", &mut causes);
            } else {
                causes.extend(validate::custom(&kind.types, kind.of(), object, before));
            }
            strategy::validate(place, object, before, &mut causes);
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(kind.group(), kind.kind(), &place.name, &causes))
    }
}

/// The metadata of an object, which is made if it is not there.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let place = &mut object["metadata"];
    if !place.is_object() {
        *place = json!({});
    }
    place.as_object_mut().expect("it was made an object")
}

fn set_or_remove(object: &mut Value, name: &str, value: Option<Value>) {
    match value {
        Some(value) => object[name] = value,
        None => {
            if let Some(map) = object.as_object_mut() {
                map.remove(name);
            }
        }
    }
}

/// Removes what is never merged or compared.
fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
}

/// The resource version that a client sent.
fn version_of(object: &Value) -> Result<Option<u64>, Status> {
    match object["metadata"]["resourceVersion"].as_str() {
        None | Some("" | "0") => Ok(None),
        Some(text) => match text.parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(Status::bad_request(format!("Invalid value: {text:?}: must be an unsigned integer"))),
        },
    }
}

fn writer<'a>(place: &'a Place, options: &'a Options, time: &'a str) -> Writer<'a> {
    Writer {
        manager: &options.manager,
        api_version: &place.kind.api_version,
        subresource: &place.subresource,
        time,
        has_status: place.kind.has_status(),
    }
}

/// What an object is compared with when it is created: nothing but what every object of its kind has.
fn empty(kind: &Kind, object: &Value) -> Value {
    let mut empty = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {}});
    if kind.is_builtin() {
        decode::decode(&kind.types, kind.of(), &mut empty, decode::Decoded::Builtin);
    }
    empty
}

fn set_defaults(kind: &Kind, object: &mut Value) {
    if &*kind.store == "/secrets" {
        strategy::string_data(object);
    }
    if kind.is_builtin() {
        defaults::builtin(&kind.types, kind.of(), object);
    } else {
        defaults::custom(&kind.types, kind.of(), object);
    }
}
