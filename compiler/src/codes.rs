//! The codes of this crate's diagnostics: KS01xx.

use ksail_model::Code;

/// A code and what it means, for the page of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// What it says, in a few words.
    pub title: &'static str,
    /// Why it happens and what to do.
    pub help: &'static str,
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $title:literal, $help:literal;)+) => {
        $($(#[$meta])* #[doc = $title] pub const $name: Code = Code($number);)+

        /// Every code of this crate, in order.
        pub const ALL: &[CodeInfo] = &[$(CodeInfo { code: $name, title: $title, help: $help }),+];
    };
}

codes! {
    SYNTAX = 100, "the file is not readable YAML",
        "The YAML parser stopped here. Look at indentation, quotes and brackets at the place and in the line above.";
    TOO_LARGE = 101, "the file is too large",
        "A file is bounded in bytes, and in values after its aliases are followed, so that a small file cannot grow without end.";
    SEVERAL_DOCUMENTS = 102, "the file holds more than one document",
        "One file describes one cluster. Put other environments into `ksail.<environment>.yaml`.";
    DUPLICATE_KEY = 103, "a key stands twice in one map",
        "Only one of the two can count. Remove the other.";
    BAD_MERGE = 104, "a merge key, an alias or a tag cannot be followed",
        "`<<` takes a map, an alias of one, or a list of those; an alias needs an anchor above it; only YAML's own tags are known.";
    BAD_KEY = 105, "a key is not a text",
        "Keys of maps are plain texts.";
    UNKNOWN_KEY = 110, "the key is not known",
        "The format has no such key at this place. The message names the nearest one, or the place where the key belongs.";
    WRONG_TYPE = 111, "the value has the wrong type",
        "The field takes another type. Texts that look like numbers or booleans need quotes.";
    UNKNOWN_WORD = 112, "the value is none of the allowed words",
        "The field takes one of a closed set of words, which are matched without regard to case.";
    BAD_PATTERN = 113, "the value does not have the required form",
        "The field's texts have a fixed form, such as a lower-case name or a duration.";
    OUT_OF_RANGE = 114, "the number is out of range",
        "The number is below the least or above the greatest that the field takes.";
    MISSING = 115, "a required key is missing",
        "Add the key.";
    VARIABLE_UNSET = 120, "an environment variable is not set",
        "Outside of credentials an unset variable becomes empty text, which is a warning. Set it, or give a default: `${NAME:-default}`.";
    BAD_REFERENCE = 121, "`${` does not begin a reference",
        "`${NAME}` and `${NAME:-default}` are references; write `$${` for the two characters themselves.";
    LITERAL_SECRET = 122, "a credential stands openly in the file",
        "Passwords and tokens are only ever references: put the value into an environment variable and write `${NAME}`.";
    SECRET_DEFAULT = 123, "a credential has a default",
        "A default would stand openly in the file. Write `${NAME}` and set the variable.";
    SECRET_UNSET = 124, "the variable of a credential is not set",
        "Planning needs it, so that a changed credential is seen. Set it where ksail runs.";
    BAD_SET = 130, "an argument of --set is not `path=value`",
        "Write `--set spec.cluster.distribution=None`; positions of lists as `spec.mirrors[0].host=ghcr.io`.";
    NOT_ALLOWED_TOGETHER = 140, "two fields contradict each other",
        "Both places are shown. Change one of them.";
    DUPLICATE_ENTRY = 141, "two entries are for the same thing",
        "Both places are shown. Remove one of them.";
    BAD_VALUE = 142, "the value cannot be understood",
        "The message says which form is expected.";
    NO_EFFECT = 143, "the field has no effect here",
        "The section belongs to another distribution or provider. It may stay; it does nothing.";
    NOT_BUILT = 150, "this part of the format is not built yet",
        "The file is valid, but this version of ksail cannot make it so, and makes nothing rather than a part. Leave the field out, or wait for a version that has it.";
    WRONG_VERSION = 151, "this version of ksail is not the one that the file requires",
        "`spec.requiredVersion` names the versions that may use the file.";
    ARCHIVE = 152, "the archive of images cannot be read, or lacks one",
        "`spec.cluster.importImages` names a tar as `docker save` writes it, or an OCI layout in a tar, that is not packed as a whole. A bundle (`--bundle`) holds every image that the plan needs: `ksail bundle create` writes one anew.";
    MANIFEST = 153, "manifests cannot be read",
        "An entry of `spec.manifests` is a file, a folder, or a pattern such as `apps/**/*.yaml`, relative to the project's folder, and there must be something.";
    NOT_AN_OBJECT = 154, "a document is not an object",
        "Every document of a manifest is an object of Kubernetes, or a list of such: a map with `apiVersion`, `kind` and `metadata.name`.";
    AFTER_TOO_MUCH = 155, "too many objects wait for too many",
        "Each object of an entry of `spec.manifests` waits for each that its `after` names. Name the few that matter.";
    BAD_EXPRESSION = 156, "the expression of readiness cannot be used",
        "The annotation `ksail.io/ready` is CEL over `self`, the object, and is true once the object can be used: `self.status.phase == 'Ready'`. `docs/objects.md` lists the functions.";
    SECRET_SOURCE = 157, "a value of a Secret cannot be taken from where it says",
        "A value of a Secret is `${NAME}`, `${file:path}` or `${exec:program arguments}`, and nothing beside it, or stands there itself. The file is relative to the project's folder and must be there.";
    NOT_OF_ITS_KIND = 158, "an object is not as its kind has it",
        "The server would refuse it: a field that the kind does not have, a value of another type, or a field that is missing. Types are those of the Kubernetes that the message names.";
    MATCHES_NOTHING = 160, "the rule matches no resource",
        "Nothing that is declared has an address that begins so. `ksail plan` and `ksail state list` show addresses.";
    CANNOT_COEXIST = 161, "create-before-destroy is not possible for this kind",
        "Two of its kind cannot exist at once, because a name or port is fixed.";
    NOT_DECLARED = 162, "the address is not declared",
        "An import leads to a resource that the file declares, and what comes after something, to something that is there. For a move it is only a warning: entries may outlive what they moved.";
    STILL_DECLARED = 163, "the address is still declared",
        "What moved away or was removed may not be declared at the same time.";
    BAD_ADDRESS = 164, "the text is not an address",
        "Addresses read `<cluster>/<kind>/<name>`; the cluster may be left out. A `/` within a name is written `%2F`.";
    INTERNAL = 199, "the compiler contradicts itself",
        "This is a fault of ksail. Please report it with the file.";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn codes_ascend_and_stay_in_their_range() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(ALL.iter().all(|info| (100..200).contains(&info.code.0)));
    }
}
