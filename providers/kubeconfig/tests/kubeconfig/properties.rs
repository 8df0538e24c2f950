//! Random kubeconfigs: what others wrote is there after ours came, after each change, and after ours went.

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Value as Json, json};

use crate::support::{World, named, said};

/// A file with entries of others, written in one of several ways.
#[derive(Debug, Clone)]
struct File {
    text: String,
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}",
        Just_("true"),
        Just_("1e5"),
        Just_("a: b"),
        Just_("#x"),
        Just_("müller"),
        "[ -~]{1,12}"
    ]
}

#[expect(non_snake_case, reason = "a strategy of one text")]
fn Just_(text: &'static str) -> impl Strategy<Value = String> {
    proptest::strategy::Just(text.to_owned())
}

fn entry(inner: &'static str) -> impl Strategy<Value = Json> {
    (word(), prop::collection::btree_map("[a-z]{1,6}", word(), 0..3))
        .prop_map(move |(name, fields)| json!({"name": name, inner: fields}))
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// One entry in block style; `gap` is how far the dash is indented.
fn block(entry: &Json, gap: usize, comments: bool) -> String {
    let mut out = String::new();
    let note = if comments { " # of somebody" } else { "" };
    for (at, (key, value)) in entry.as_object().into_iter().flatten().enumerate() {
        let lead = if at == 0 { format!("{:gap$}- ", "") } else { format!("{:1$}", "", gap + 2) };
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                out.push_str(&format!("{lead}{key}:{note}\n"));
                for (key, value) in fields {
                    out.push_str(&format!("{:1$}{2}: {3}\n", "", gap + 4, quoted(key), value));
                }
            }
            other => out.push_str(&format!("{lead}{key}: {other}{note}\n")),
        }
    }
    if comments {
        out.push_str("# between\n\n");
    }
    out
}

fn list(key: &str, entries: &[Json], style: u8, comments: bool) -> String {
    match (style % 5, entries) {
        (_, []) if style.is_multiple_of(3) => String::new(),
        (0, []) => format!("{key}: null\n"),
        (1, []) => format!("{key}:\n"),
        (_, []) => format!("{key}: []\n"),
        (0, _) => format!("{key}: {}\n", Json::from(entries.to_vec())),
        (1, _) => {
            let lines = entries.iter().map(|entry| format!("  {entry}")).collect::<Vec<_>>().join(",\n");
            format!("{key}: [\n{lines},\n]\n")
        }
        (style, _) => {
            let gap = usize::from(style - 2) * 2;
            let entries: String = entries.iter().map(|entry| block(entry, gap, comments)).collect();
            format!("{key}:\n{entries}")
        }
    }
}

fn file() -> impl Strategy<Value = File> {
    let entries = (
        prop::collection::vec(entry("cluster"), 0..3),
        prop::collection::vec(entry("user"), 0..3),
        prop::collection::vec(entry("context"), 0..3),
    );
    (entries, any::<[u8; 4]>(), any::<bool>(), any::<bool>(), any::<bool>(), word()).prop_map(
        |((clusters, users, contexts), styles, comments, breaks, ends, current)| {
            let mut text = String::from(if comments { "# mine\n---\nkind: Config\n" } else { "kind: Config\n" });
            text.push_str(&list("clusters", &clusters, styles[0], comments));
            match styles[3] % 4 {
                0 => {}
                1 => text.push_str("current-context:\n"),
                2 => text.push_str("current-context: ''\n"),
                _ => text.push_str(&format!("current-context: {}\n", quoted(&current))),
            }
            text.push_str(&list("users", &users, styles[1], comments));
            text.push_str(&list("contexts", &contexts, styles[2], comments));
            if !ends {
                text.truncate(text.trim_end().len());
            }
            if breaks {
                text = text.replace('\n', "\r\n");
            }
            File { text }
        },
    )
}

/// What a file says of others: their entries in their order, and all else but the current context.
fn others(said: &Json) -> Json {
    let mut said = said.clone();
    for list in ["clusters", "users", "contexts"] {
        let others = said[list].as_array().into_iter().flatten().filter(|entry| entry["name"] != "ksail-dev");
        said[list] = others.cloned().collect();
    }
    said.as_object_mut().expect("a map").remove("current-context");
    said
}

/// How many files are tried: each is written to disk several times.
const FILES: u32 = 100;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(FILES))]

    #[test]
    fn what_others_wrote_stays(file in file(), rewritten in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            world.write(&file.text);
            let before = said(&file.text);
            let made = world.create().await.unwrap();
            assert_eq!(others(&world.said()), others(&before), "{}\nbecame\n{}", file.text, world.text());
            assert_eq!(named(&world.said(), "ksail-dev"), [1, 1, 1]);
            let once = world.text();
            assert_eq!(world.create().await.unwrap(), made);
            assert_eq!(world.text(), once, "a second creation changes nothing");
            if rewritten {
                // As another tool writes it.
                world.write(&world.said().to_string());
                assert_eq!(world.seen().await.fields, made.seen.fields);
            }
            world.rotate("next");
            world.update(&["credentials"]).await.unwrap();
            assert_eq!(others(&world.said()), others(&before));
            assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref());
            world.delete().await.unwrap();
            let after = world.said();
            assert_eq!(named(&after, "ksail-dev"), [0, 0, 0]);
            assert_eq!(others(&after), others(&before), "{}\nbecame\n{}", file.text, world.text());
            // Comments of others are there still.
            let comments = |text: &str| ["# mine", "# of somebody", "# between"].map(|comment| text.matches(comment).count());
            if !rewritten {
                assert_eq!(comments(&world.text()), comments(&file.text), "{}\nbecame\n{}", file.text, world.text());
            }
        });
    }
}
