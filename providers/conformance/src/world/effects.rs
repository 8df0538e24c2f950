//! What calls do to the things of a simulated outside.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ksail_model::{Map, Mark, Ownership, Path, Scope, Secret, Seen, Value};
use ksail_provider::{Applied, CallError, DeleteRequest, Deleted, SecretText, Target};

use super::{Behaviour, Thing, World};

/// The store failed in the middle of a call.
pub(super) fn lost(address: &ksail_model::Address, error: &dyn fmt::Display) -> CallError {
    CallError::indeterminate(format!("{address}: the simulated outside failed: {error}"))
}

/// Whether only some fields of the thing are ours.
fn fields_only(target: &Target) -> bool {
    target.ownership == Ownership::Fields
}

/// A spec as it is stored: secrets by fingerprint, absent fields left out.
pub(super) fn stored(spec: Option<&Value>) -> Value {
    let spec = spec.cloned().unwrap_or_else(Value::empty_map).map_leaves(&mut |leaf| match leaf {
        Value::Secret(Secret { fingerprint: Some(fingerprint), .. }) => {
            Some(Value::Secret(Secret::observed(fingerprint.clone())))
        }
        _ => None,
    });
    match spec {
        Value::Map(map) => Value::Map(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        Value::Null => Value::empty_map(),
        other => other,
    }
}

/// What of a thing a target's owner is told.
pub(super) fn seen(world: &World, thing: &Thing, target: &Target, lineage: &str) -> Seen {
    let mut seen = thing.seen(lineage, world.things.now_ms());
    if fields_only(target)
        && let Some(wanted) = target.spec.as_ref().and_then(Value::as_map)
    {
        seen.fields = only(&seen.fields, wanted);
    }
    seen
}

fn only(fields: &Value, wanted: &Map) -> Value {
    Value::map(wanted.keys().filter_map(|key| fields.field(key).map(|value| (key.clone(), value.clone()))))
}

fn is_target(thing: &Thing, scope: &Scope, target: &Target) -> bool {
    *thing.scope == *scope.0
        && thing.kind == target.address.kind()
        && thing.name == target.identity.name
        && target.identity.id.as_ref().is_none_or(|id| *id == thing.id)
}

/// The thing that a target finds: ours before others' where a bad provider made several.
pub(super) fn find(world: &World, scope: &Scope, target: &Target, lineage: &str) -> Result<Option<Thing>, CallError> {
    let things = world
        .find(target.address.kind(), &target.identity.name)
        .map_err(|error| CallError::unreachable(format!("{} cannot be looked at: {error}", target.address)))?;
    let mut found: Vec<Thing> = things.into_iter().filter(|thing| is_target(thing, scope, target)).collect();
    found.sort_by_key(|thing| thing.mark_of(lineage).is_none());
    Ok(found.into_iter().next())
}

fn position(of_name: &[Thing], scope: &Scope, target: &Target, lineage: &str) -> Option<usize> {
    let found = |ours: bool| {
        of_name.iter().position(|thing| is_target(thing, scope, target) && (!ours || thing.mark_of(lineage).is_some()))
    };
    found(true).or_else(|| found(false))
}

fn not_ours(target: &Target, thing: &Thing) -> CallError {
    let whose = thing.marks.first().map_or_else(
        || "it carries no mark".to_owned(),
        |mark| format!("it is {} of lineage {}, generation {}", mark.address, mark.lineage, mark.generation),
    );
    CallError::not_ours(format!("{} exists and is not ours: {whose}", target.address))
}

/// A creation or change whose request is sound.
pub(super) struct Making<'a> {
    target: &'a Target,
    mark: &'a Mark,
    fields: Value,
}

impl<'a> Making<'a> {
    /// Checks what the engine owes: a mark of the caller's lineage and of this address, every reference resolved,
    /// every secret with its fingerprint and text.
    pub(super) fn of(
        target: &'a Target,
        mark: &'a Mark,
        secrets: &BTreeMap<Path, SecretText>,
        lineage: &str,
    ) -> Result<Self, CallError> {
        let refuse = |why: String| Err(CallError::refused(format!("{}: {why}", target.address)));
        if mark.lineage != lineage || mark.address != target.address {
            return refuse(format!("the mark is that of {} of lineage {}", mark.address, mark.lineage));
        }
        let Some(spec) = &target.spec else { return refuse("the spec is missing".to_owned()) };
        if spec.any_leaf(&|leaf| matches!(leaf, Value::Ref(_) | Value::Unknown)) {
            return refuse("the spec holds a reference that is not resolved".to_owned());
        }
        for (path, secret) in spec.secrets() {
            if secret.fingerprint.is_none() {
                return refuse(format!("the secret at {path} has no fingerprint"));
            }
            if !secrets.contains_key(&path) {
                return refuse(format!("the secret at {path} has no text"));
            }
        }
        if target.ownership == Ownership::Read {
            return refuse("it is only looked at".to_owned());
        }
        Ok(Self { target, mark, fields: stored(Some(spec)) })
    }

    fn on(
        &self,
        world: &World,
        change: &mut dyn FnMut(&mut Vec<Thing>) -> Result<Thing, CallError>,
        scope: &Scope,
    ) -> Result<Applied, CallError> {
        let address = &self.target.address;
        let mut result = Err(lost(address, &"it did not change anything"));
        world
            .things
            .change(address.kind(), &self.target.identity.name, &mut |of_name| result = change(of_name))
            .map_err(|error| lost(address, &error))?;
        let thing = result?;
        Ok(Applied { scope: scope.clone(), seen: seen(world, &thing, self.target, &self.mark.lineage) })
    }

    /// Makes the thing, or completes one that is ours.
    pub(super) fn create(&self, world: &World, scope: &Scope, behaviour: &Behaviour) -> Result<Applied, CallError> {
        let lineage = &self.mark.lineage;
        let mut change = |of_name: &mut Vec<Thing>| match position(of_name, scope, self.target, lineage) {
            Some(at) => self.take(world, &mut of_name[at], behaviour),
            None if fields_only(self.target) || self.target.identity.id.is_some() => {
                Err(CallError::refused(format!("{} is not there", self.target.address)))
            }
            None => {
                let thing = self.new_thing(world, scope, behaviour);
                of_name.push(thing.clone());
                Ok(thing)
            }
        };
        self.on(world, &mut change, scope)
    }

    fn new_thing(&self, world: &World, scope: &Scope, behaviour: &Behaviour) -> Thing {
        let id = world.things.new_id();
        let mut thing = Thing {
            scope: scope.0.to_string(),
            kind: self.target.address.kind().to_owned(),
            name: self.target.identity.name.clone(),
            attributes: Value::map([("id", Value::from(id.clone()))]),
            id,
            fields: self.fields.clone(),
            marks: vec![self.mark.clone()],
            ownership: self.target.ownership,
            preexisting: false,
            taken: BTreeMap::new(),
            ready_at_ms: 0,
            held_back: None,
        };
        complete(&mut thing.fields, &behaviour.computed);
        touch(world, &mut thing, behaviour);
        thing
    }

    /// Create on a thing that is there.
    fn take(&self, world: &World, thing: &mut Thing, behaviour: &Behaviour) -> Result<Thing, CallError> {
        let target = self.target;
        match thing.mark_of(&self.mark.lineage) {
            Some(mark) if mark.address != self.mark.address => return Err(not_ours(target, thing)),
            // An engine that replaces deletes the former generation first where the name is fixed.
            Some(mark) if mark.generation != self.mark.generation => {
                return Err(CallError::refused(format!(
                    "{} is still there in generation {}, generation {} cannot be made",
                    target.address, mark.generation, self.mark.generation
                )));
            }
            Some(_) => {
                if let Some(fields) = self.fields.as_map() {
                    complete(&mut thing.fields, fields);
                }
                return Ok(thing.clone());
            }
            None => {}
        }
        match target.ownership {
            Ownership::Shared if thing.ownership == Ownership::Shared || thing.marks.is_empty() => {
                thing.ownership = Ownership::Shared;
            }
            Ownership::Fields => self.take_fields(thing),
            // It is to be adopted by its id.
            Ownership::Owned if thing.marks.is_empty() && target.identity.id.as_ref() == Some(&thing.id) => {
                self.write_fields(thing);
            }
            _ => return Err(not_ours(target, thing)),
        }
        thing.marks.push(self.mark.clone());
        touch(world, thing, behaviour);
        Ok(thing.clone())
    }

    fn take_fields(&self, thing: &mut Thing) {
        if let Some(wanted) = self.fields.as_map() {
            thing.taken.insert(self.mark.lineage.clone(), only(&thing.fields, wanted));
        }
        self.write_fields(thing);
    }

    /// Writes the wanted fields; what the spec leaves out stays the outside's.
    fn write_fields(&self, thing: &mut Thing) {
        if let (Value::Map(now), Some(wanted)) = (&mut thing.fields, self.fields.as_map()) {
            now.extend(wanted.clone());
        }
    }

    /// Changes the thing in place.
    pub(super) fn update(&self, world: &World, scope: &Scope, behaviour: &Behaviour) -> Result<Applied, CallError> {
        let lineage = &self.mark.lineage;
        let mut change = |of_name: &mut Vec<Thing>| {
            let Some(at) = position(of_name, scope, self.target, lineage) else {
                return Err(CallError::refused(format!("{} is not there", self.target.address)));
            };
            let thing = &mut of_name[at];
            let ours = thing.marks.iter().position(|mark| mark.lineage == *lineage);
            match ours {
                Some(at) => thing.marks[at] = self.mark.clone(),
                // What was imported may lack the mark until it is first changed; its recorded id proves it.
                None if thing.marks.is_empty() && self.target.id.as_ref() == Some(&thing.id) => {
                    thing.marks.push(self.mark.clone());
                }
                None => return Err(not_ours(self.target, thing)),
            }
            if self.target.ownership == Ownership::Owned {
                let computed: Vec<String> = behaviour.computed.keys().cloned().collect();
                let kept: BTreeMap<String, Value> = computed
                    .into_iter()
                    .filter_map(|key| thing.fields.field(&key).cloned().map(|value| (key, value)))
                    .collect();
                thing.fields = self.fields.clone();
                complete(&mut thing.fields, &kept);
            } else {
                self.write_fields(thing);
            }
            touch(world, thing, behaviour);
            Ok(thing.clone())
        };
        self.on(world, &mut change, scope)
    }
}

/// Fills in fields that are not there.
fn complete<'a>(fields: &mut Value, with: impl IntoIterator<Item = (&'a String, &'a Value)>) {
    if let Value::Map(fields) = fields {
        for (key, value) in with {
            fields.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// What every making and change does beside its fields.
fn touch(world: &World, thing: &mut Thing, behaviour: &Behaviour) {
    if let Value::Map(attributes) = &mut thing.attributes {
        attributes.extend(behaviour.attributes.clone());
    }
    let after = behaviour.ready_after.unwrap_or(Duration::ZERO);
    thing.ready_at_ms =
        if after.is_zero() { 0 } else { world.things.now_ms() + u64::try_from(after.as_millis()).unwrap_or(u64::MAX) };
    thing.held_back.clone_from(&behaviour.held_back);
}

/// Deletes or releases the thing.
pub(super) fn delete(world: &World, scope: &Scope, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let (target, lineage) = (&request.target, &request.mark.lineage);
    let mut result = Ok(Deleted::WasAbsent);
    let mut gone = None;
    world
        .things
        .change(target.address.kind(), &target.identity.name, &mut |of_name| {
            let Some(at) = position(of_name, scope, target, lineage) else { return };
            let thing = &mut of_name[at];
            result = release(thing, request);
            if result == Ok(Deleted::Gone) {
                gone = Some(thing.id.clone());
                of_name.remove(at);
            }
        })
        .map_err(|error| lost(&target.address, &error))?;
    if let Some(id) = gone {
        world.remove_contents(&id).map_err(|error| lost(&target.address, &error))?;
    }
    result
}

/// Takes our mark off; `Gone` means that the thing is to be removed.
fn release(thing: &mut Thing, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let (target, wanted) = (&request.target, &request.mark);
    let adopted = request.adopted && thing.marks.is_empty() && target.id.as_ref() == Some(&thing.id);
    let Some(mark) = thing.mark_of(&wanted.lineage) else {
        return match target.ownership {
            // Released before; others may hold it still.
            Ownership::Shared | Ownership::Fields => Ok(Deleted::WasAbsent),
            Ownership::Owned if adopted => Ok(Deleted::Gone),
            _ => Err(not_ours(target, thing)),
        };
    };
    if mark.generation != wanted.generation {
        return Err(not_ours(target, thing));
    }
    match target.ownership {
        Ownership::Owned => Ok(Deleted::Gone),
        Ownership::Read => Err(CallError::refused(format!("{} is only looked at", target.address))),
        Ownership::Shared | Ownership::Fields => {
            thing.marks.retain(|mark| mark.lineage != wanted.lineage);
            if target.ownership == Ownership::Fields {
                if let (Some(Value::Map(before)), Value::Map(now)) =
                    (thing.taken.remove(&wanted.lineage), &mut thing.fields)
                {
                    let ours = target.spec.as_ref().and_then(Value::as_map);
                    now.retain(|key, _| ours.is_none_or(|ours| !ours.contains_key(key)));
                    now.extend(before);
                }
                return Ok(Deleted::Released);
            }
            Ok(if thing.marks.is_empty() && !thing.preexisting { Deleted::Gone } else { Deleted::Released })
        }
    }
}
