//! Our three entries in a file, and the mark that they carry.

use ksail_kinds::{KubeconfigSpec, Validity};
use ksail_model::{Address, Mark, Readiness, Seen, Value};

use crate::edit::{CURRENT, Change, is_named};
use crate::source::{Credentials, OF_CLUSTER, OF_USER, has};
use crate::tree::Tree;

/// The name of the extension that holds our mark.
const EXTENSION: &str = "ksail.io";
/// The lists of a kubeconfig, with the key that an entry's fields are under, and the fields that are ours, besides those of
/// credentials.
const CLUSTERS: (&str, &str) = ("clusters", "cluster");
const USERS: (&str, &str) = ("users", "user");
const CONTEXTS: (&str, &str) = ("contexts", "context");
const LISTS: [(&str, &str); 3] = [CLUSTERS, USERS, CONTEXTS];

/// What is written onto an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) mark: Mark,
    /// The kubeconfig that its credentials came from.
    pub(crate) source: String,
    /// The context that was the current one before ours.
    pub(crate) former: String,
}

impl Stamp {
    fn of(entry: &Tree, inner: &str) -> Option<Self> {
        let extensions = entry.get(inner)?.get("extensions")?.as_list();
        let ours = extensions.iter().find(|extension| is_named(extension, EXTENSION))?.get("extension")?;
        let text = |key: &str| ours.get(key).and_then(Tree::as_text).map(str::to_owned);
        Some(Self {
            mark: Mark {
                lineage: text("lineage")?,
                address: Address::parse(&text("address")?).ok()?,
                operation: text("operation")?,
                generation: text("generation")?.parse().ok()?,
            },
            source: text("source").unwrap_or_default(),
            former: text("former").unwrap_or_default(),
        })
    }

    fn extension(&self) -> Tree {
        let mut fields = vec![
            ("address".to_owned(), Tree::text(self.mark.address.as_str())),
            ("generation".to_owned(), Tree::text(self.mark.generation.to_string())),
            ("lineage".to_owned(), Tree::text(self.mark.lineage.as_str())),
            ("operation".to_owned(), Tree::text(self.mark.operation.as_str())),
            ("source".to_owned(), Tree::text(self.source.as_str())),
        ];
        if !self.former.is_empty() {
            fields.push(("former".to_owned(), Tree::text(self.former.as_str())));
        }
        Tree::map([("extension", Tree::Map(fields)), ("name", Tree::text(EXTENSION))])
    }
}

/// The entries of one name in a file, whoever made them.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    name: String,
    cluster: Option<Tree>,
    user: Option<Tree>,
    context: Option<Tree>,
    stamps: Vec<Option<Stamp>>,
    current: String,
}

impl Found {
    /// The entries of a name in what a file says.
    pub(crate) fn of(root: &Tree, name: &str) -> Self {
        let mut stamps = Vec::new();
        let mut find = |(list, inner): (&str, &str)| {
            let mut named = root.get(list).map(Tree::as_list).unwrap_or_default().iter().filter(|e| is_named(e, name));
            let first = named.next()?;
            stamps.push(Stamp::of(first, inner));
            stamps.extend(named.map(|entry| Stamp::of(entry, inner)));
            Some(first.clone())
        };
        let (cluster, user, context) = (find(CLUSTERS), find(USERS), find(CONTEXTS));
        let current = root.get(CURRENT).and_then(Tree::as_text).unwrap_or_default().to_owned();
        Self { name: name.to_owned(), cluster, user, context, stamps, current }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.cluster.is_none() && self.user.is_none() && self.context.is_none()
    }

    /// The stamp that all of them carry, but for what changes with each write. Where they differ in whose they are, that of
    /// somebody else than `ours`, and none where one carries none.
    pub(crate) fn stamp(&self, ours: &str) -> Option<&Stamp> {
        if self.stamps.iter().any(Option::is_none) {
            // One of another lineage tells more.
            return self.stamps.iter().flatten().find(|stamp| stamp.mark.lineage != ours);
        }
        let other = self.stamps.iter().flatten().find(|stamp| stamp.mark.lineage != ours);
        // That of the context comes last, and is the one that is read.
        other.or_else(|| self.stamps.last().and_then(Option::as_ref))
    }

    fn inner(entry: Option<&Tree>, key: &str) -> Tree {
        entry.and_then(|entry| entry.get(key)).cloned().unwrap_or(Tree::Map(Vec::new()))
    }

    /// Whether the credentials are these.
    fn has(&self, credentials: &Credentials) -> bool {
        has(&Self::inner(self.cluster.as_ref(), CLUSTERS.1), &credentials.cluster, &OF_CLUSTER)
            && has(&Self::inner(self.user.as_ref(), USERS.1), &credentials.user, &OF_USER)
    }

    /// What is seen of them in a file at a time in seconds since the epoch. `credentials` are those that its cluster has now, if they can be
    /// read.
    pub(crate) fn seen(&self, file: &str, ours: &str, credentials: Option<&Credentials>, now: i64) -> Seen {
        let stamp = self.stamp(ours);
        let text = |entry: Option<&Tree>, inner: &str, key: &str| {
            Self::inner(entry, inner).get(key).and_then(Tree::as_text).map(str::to_owned)
        };
        let context = self.context.as_ref();
        // What the context says of the others, as long as they are there.
        let named = |there: bool, inner: &str| {
            there.then(|| context.map_or(Some(self.name.clone()), |_| text(context, CONTEXTS.1, inner))).flatten()
        };
        let is_current = stamp.is_some() || self.current == self.name;
        // At their end they serve nobody, whatever the cluster has.
        let certificate = text(self.user.as_ref(), USERS.1, "client-certificate-data");
        let is_due = certificate.and_then(|text| Validity::of(&text)).is_some_and(|validity| validity.is_due(now));
        let is_outdated = is_due || credentials.is_some_and(|credentials| !self.has(credentials));
        let mut fields = vec![
            ("file", Some(Value::from(file))),
            ("context", context.map(|_| Value::from(self.name.as_str()))),
            ("cluster", named(self.cluster.is_some(), CLUSTERS.1).map(Value::from)),
            ("user", named(self.user.is_some(), USERS.1).map(Value::from)),
            ("server", text(self.cluster.as_ref(), CLUSTERS.1, "server").map(Value::from)),
            ("credentials", Some(Value::from(KubeconfigSpec::credentials(!is_outdated)))),
            ("current_context", Some(Value::from(is_current))),
        ];
        fields.push(("source", stamp.map(|stamp| stamp.source.as_str()).filter(|s| !s.is_empty()).map(Value::from)));
        let former = stamp.map(|stamp| stamp.former.as_str()).filter(|former| !former.is_empty());
        Seen {
            id: Some(self.name.clone()),
            fields: Value::map(fields.into_iter().filter_map(|(key, value)| Some((key, value?)))),
            attributes: Value::map(
                [("id", self.name.as_str())].into_iter().chain(former.map(|former| ("former_context", former))),
            ),
            mark: stamp.map(|stamp| stamp.mark.clone()),
            readiness: Readiness::Ready,
            others: Vec::new(),
        }
    }

    /// The context to give back when ours goes.
    fn former(&self, ours: &str) -> String {
        match self.stamp(ours) {
            Some(stamp) if self.current == self.name => stamp.former.clone(),
            _ if self.current == self.name => String::new(),
            _ => self.current.clone(),
        }
    }

    /// The changes that make the entries as they shall be. Without `credentials` those that are there stay. `switches` says
    /// whether the context becomes the current one.
    pub(crate) fn wanted(
        &self,
        spec: &KubeconfigSpec,
        mark: &Mark,
        credentials: Option<&Credentials>,
        switches: bool,
    ) -> Vec<Change> {
        let former = match self.stamp(&mark.lineage) {
            Some(stamp) if !switches => stamp.former.clone(),
            _ => self.former(&mark.lineage),
        };
        let stamp = Stamp { mark: mark.clone(), source: spec.source.clone(), former };
        let name = self.name.as_str();
        let server = ("server".to_owned(), Tree::text(spec.server.as_str()));
        let (mut of_cluster, mut of_user) = (vec![server], Vec::new());
        let (mut our_cluster, mut our_user) = (vec!["server"], Vec::new());
        if let Some(credentials) = credentials {
            of_cluster.extend(credentials.cluster.iter().cloned());
            of_user.extend(credentials.user.iter().cloned());
            our_cluster.extend(OF_CLUSTER);
            our_user.extend(OF_USER);
        }
        let of_context = vec![
            ("cluster".to_owned(), Tree::text(spec.cluster.as_str())),
            ("user".to_owned(), Tree::text(spec.user.as_str())),
        ];
        let put = |(list, inner): (&'static str, &str), old: Option<&Tree>, fields, ours: &[&str]| Change::Put {
            list,
            name: name.to_owned(),
            entry: entry(name, inner, old, fields, ours, &stamp),
        };
        let mut changes = vec![
            put(CLUSTERS, self.cluster.as_ref(), of_cluster, &our_cluster),
            put(USERS, self.user.as_ref(), of_user, &our_user),
            put(CONTEXTS, self.context.as_ref(), of_context, &["cluster", "user"]),
        ];
        if switches && self.current != name {
            changes.push(Change::Current(name.to_owned()));
        }
        changes
    }

    /// The changes that take the entries out, and give the current context back where it is still ours. `exists` tells whether the one
    /// before is still there.
    pub(crate) fn unwanted(&self, ours: &str, exists: impl Fn(&str) -> bool) -> Vec<Change> {
        let mut changes: Vec<Change> =
            LISTS.iter().map(|(list, _)| Change::Remove { list, name: self.name.clone() }).collect();
        if self.current == self.name {
            let former = self.stamp(ours).map(|stamp| stamp.former.clone()).unwrap_or_default();
            changes.push(Change::Current(if exists(&former) { former } else { String::new() }));
        }
        changes
    }
}

/// An entry with our fields and our mark; what its user put into it besides stays.
fn entry(
    name: &str,
    inner: &str,
    old: Option<&Tree>,
    mut fields: Vec<(String, Tree)>,
    ours: &[&str],
    stamp: &Stamp,
) -> Tree {
    let before = Found::inner(old, inner);
    let is_ours = |key: &str, fields: &[(String, Tree)]| ours.contains(&key) || fields.iter().any(|(k, _)| k == key);
    let kept: Vec<(String, Tree)> =
        (before.as_map().iter()).filter(|(key, _)| key != "extensions" && !is_ours(key, &fields)).cloned().collect();
    fields.extend(kept);
    let extensions = before.get("extensions").map(Tree::as_list).unwrap_or_default();
    let others = extensions.iter().filter(|extension| !is_named(extension, EXTENSION)).cloned();
    fields.push(("extensions".to_owned(), Tree::List(others.chain([stamp.extension()]).collect())));
    // As kubectl writes them, so that it changes nothing when it writes the file.
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let mut entry = vec![(inner.to_owned(), Tree::Map(fields)), ("name".to_owned(), Tree::text(name))];
    let more = old.map(Tree::as_map).unwrap_or_default().iter();
    entry.extend(more.filter(|(key, _)| key != inner && key != "name").cloned());
    entry.sort_by(|a, b| a.0.cmp(&b.0));
    Tree::Map(entry)
}

/// Whether a file has a context.
pub(crate) fn has_context(root: &Tree, name: &str) -> bool {
    root.get(CONTEXTS.0).map(Tree::as_list).unwrap_or_default().iter().any(|context| is_named(context, name))
}

/// The names of all that carries a mark in what a file says.
pub(crate) fn marked(root: &Tree) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (list, inner) in LISTS {
        for entry in root.get(list).map(Tree::as_list).unwrap_or_default() {
            if let (Some(name), Some(_)) = (entry.get("name").and_then(Tree::as_text), Stamp::of(entry, inner))
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}
