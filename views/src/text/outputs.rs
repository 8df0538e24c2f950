//! Outputs, after an apply and by `ksail output`.

use std::collections::BTreeMap;

use ksail_model::Value;

use super::TextOptions;
use super::fields::{Field, Shape, Sign};
use super::print;
use crate::page::{Page, Tone};

/// The outputs, resolved, as text; empty where there are none. Secrets are hidden.
pub fn outputs(outputs: &BTreeMap<String, Value>, options: &TextOptions) -> String {
    if outputs.is_empty() {
        return String::new();
    }
    let mut page = Page::new(options.color, options.width);
    page.line(&[(Tone::Strong, "Outputs:")]);
    let fields: Vec<Field> = outputs
        .iter()
        .map(|(name, value)| Field {
            label: Some(name.clone()),
            sign: Sign::Same,
            shape: Shape::Whole(value.clone()),
            comment: String::new(),
        })
        .collect();
    print::fields(&mut page, 0, &fields, 0, "output");
    page.finish()
}
