//! `ksail.yaml` and its overlays compiled into a declared graph.
//!
//! The compiler is pure: it is given texts ([`Sources`]) and a narrow view of the outside ([`Project`]), and answers
//! with values and diagnostics. It reads no files, no environment and no clock of its own.

mod catalogue;
mod check;
pub mod codes;
mod compile;
mod credential;
mod endpoints;
pub mod format;
mod image_reference;
mod init;
mod kind_file;
mod layers;
mod loaded;
mod manifests;
mod mask;
mod nodes;
mod reference_page;
mod rules;
mod shape;
mod sources;
mod stages;
mod standing;
mod template;
mod tree;
mod versions;
mod yaml;

pub use compile::{
    Compiled, ImageFrom, NeededImage, Product, as_made_by_kind, compile, context_of_kind, declare_import, needed_images,
};
pub use format::Config;
pub use init::{InitOptions, gitignore_lines, init_files, name_from_folder};
pub use layers::Layering;
pub use loaded::{Loaded, load};
pub use manifests::manifest_text;
pub use reference_page::reference_markdown;
pub use rules::validate;
pub use shape::json_schema;
pub use sources::{ArchiveFacts, BadExpression, Project, SourceFile, Sources};
