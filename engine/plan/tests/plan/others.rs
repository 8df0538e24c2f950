//! What others have of a thing: told by the plan and its explanations, and never a difference.

use ksail_model::{Declaration, Origin, Others, Path};
use serde_json::json;

use crate::support::{Bench, declared, key};

fn others(owner: &str, fields: &[&str], reconciles: bool) -> Others {
    let fields = fields.iter().map(|field| Path::parse(field).unwrap()).collect();
    Others { owner: owner.to_owned(), fields, reconciles }
}

fn bench() -> Bench {
    Bench::applied(vec![declared("thing/a", json!({"size": 1})), declared("thing/b", json!({"size": 1}))])
}

#[test]
fn who_brings_things_back_to_a_declaration_of_their_own_is_noted() {
    let mut bench = bench();
    for name in ["thing/a", "thing/b"] {
        bench.see(&key(name), |seen| seen.others = vec![others("Flux", &["color"], true)]);
    }
    let plan = bench.plan();
    let wanted = "dev/thing/a, dev/thing/b are managed by Flux too, which writes back what it declares: let one of the two manage them";
    assert_eq!(plan.notes, [wanted]);
    assert!(plan.steps.is_empty(), "it is no change");
    assert_eq!(ksail_plan::explain(&plan, &key("thing/a")).unwrap().others, [others("Flux", &["color"], true)]);
    // What goes is nobody's concern any more.
    bench.destroy();
    assert!(bench.plan().notes.is_empty());
}

#[test]
fn a_field_that_is_declared_and_set_by_another_is_noted_unless_it_is_let_be() {
    let mut bench = bench();
    bench.see(&key("thing/a"), |seen| seen.others = vec![others("a scaler", &["size"], false)]);
    bench.see(&key("thing/b"), |seen| seen.others = vec![others("a scaler", &["color"], false)]);
    let wanted = "size of dev/thing/a is declared here and set by a scaler: leave it out of the declaration";
    assert_eq!(bench.plan().notes, [wanted]);
    fn declaration(bench: &mut Bench) -> &mut Declaration {
        std::sync::Arc::make_mut(bench.declared.declarations.values_mut().next().unwrap())
    }
    let origins = declaration(&mut bench).origins.clone();
    declaration(&mut bench).origins.set(Path::key("size"), Origin::Derived { why: "it is the size of another".into() });
    assert!(bench.plan().notes.is_empty(), "nobody wrote it");
    declaration(&mut bench).origins = origins;
    assert_eq!(bench.plan().notes.len(), 1);
    declaration(&mut bench).lifecycle.ignore.push(Path::key("size"));
    assert!(bench.plan().notes.is_empty());
}
