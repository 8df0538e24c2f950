//! Secrets from every source, the vault under attack, and a canary that must not show anywhere.

mod kills;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};

use ksail_model::{Fingerprint, Secret, SecretPart, Value};
use ksail_secrets::{Identity, IdentityOrigin, Resolver, SecretError, VAULT_BYTES_MAX, Vault};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

/// A text that may appear in no output.
const CANARY: &str = "c4n4ry-s3cr3t-t3xt";

struct Fixture {
    root: tempfile::TempDir,
    identity: Identity,
}

impl Fixture {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), identity: Identity::generate() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn vault_path(&self) -> PathBuf {
        self.path(".ksail/dev/vault.age")
    }

    fn vault(&self) -> Vault {
        Vault::open_or_create(&self.vault_path(), &self.identity).unwrap()
    }

    fn resolver<'a>(&self, env: &'a (dyn Fn(&str) -> Option<String> + Sync), vault: Option<&'a Vault>) -> Resolver<'a> {
        Resolver { env, project: self.root.path().to_owned(), manifest: &manifest, command: &command, vault }
    }
}

fn manifest(file: &str, document: usize, path: &ksail_model::Path) -> Result<String, String> {
    match (file, document, path.to_string().as_str()) {
        ("app.yaml", 1, "stringData.token") => Ok(CANARY.to_owned()),
        _ => Err(format!("it has no text at {path}")),
    }
}

/// Commands of the tests: their words joined, with a newline as most programs write one.
fn command(words: &[String]) -> Result<Zeroizing<Vec<u8>>, String> {
    match words[0].as_str() {
        "fails" => Err("it failed".to_owned()),
        "silent" => Ok(Zeroizing::new(Vec::new())),
        _ => Ok(Zeroizing::new(format!("{}\n", words.join("|")).into_bytes())),
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn secret(parts: &[SecretPart]) -> Secret {
    Secret { parts: parts.to_vec(), fingerprint: None }
}

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some(CANARY.to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_sealed_comes_back_after_reopening() {
    let fixture = Fixture::new();
    let mut vault = fixture.vault();
    vault.seal("registry", CANARY.into()).unwrap();
    vault.seal("odd \" name\n/", "ü\n\u{1F511}\0".into()).unwrap();
    vault.seal("registry", "second".into()).unwrap();
    let again = fixture.vault();
    assert_eq!(again.names().collect::<Vec<_>>(), ["odd \" name\n/", "registry"]);
    assert_eq!(again.get("registry").unwrap().expose_secret(), "second");
    assert_eq!(again.get("odd \" name\n/").unwrap().expose_secret(), "ü\n\u{1F511}\0");
    assert!(again.get("other").is_none());
    assert_eq!(files_in(again.path().parent().unwrap()), 1, "temporary files are left");
}

#[cfg(unix)]
#[test]
fn vault_and_key_are_for_their_owner_alone() {
    let fixture = Fixture::new();
    let mut vault = fixture.vault();
    vault.seal("a", "b".into()).unwrap();
    assert_eq!(mode(vault.path()), 0o600);
    assert_eq!(mode(vault.path().parent().unwrap()), 0o700);
    let key = Identity::file_below(&fixture.path("config"));
    Identity::load_or_create(&key).unwrap();
    assert_eq!(mode(&key), 0o600);
}

#[test]
fn a_vault_is_created_once() {
    let fixture = Fixture::new();
    let fingerprint = fixture.vault().fingerprint(&"x".into());
    let error = Vault::create(&fixture.vault_path(), &Identity::generate()).unwrap_err();
    assert!(matches!(error, SecretError::VaultExists { .. }), "{error}");
    assert_eq!(fixture.vault().fingerprint(&"x".into()), fingerprint);
}

#[test]
fn a_missing_vault_is_told_from_a_damaged_one() {
    let fixture = Fixture::new();
    let error = Vault::open(&fixture.vault_path(), &fixture.identity).unwrap_err();
    assert!(matches!(error, SecretError::VaultMissing { .. }), "{error}");
    drop(fixture.vault());
    for content in [&b""[..], b"not an age file", b"age-encryption.org/v1\n"] {
        std::fs::write(fixture.vault_path(), content).unwrap();
        let error = Vault::open_or_create(&fixture.vault_path(), &fixture.identity).unwrap_err();
        assert!(matches!(error, SecretError::VaultDamaged { .. }), "{error}");
        assert_eq!(std::fs::read(fixture.vault_path()).unwrap(), content, "a damaged vault was written to");
    }
    std::fs::File::create(fixture.vault_path()).unwrap().set_len(VAULT_BYTES_MAX + 1).unwrap();
    let error = Vault::open(&fixture.vault_path(), &fixture.identity).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn another_identity_does_not_open_the_vault_and_is_named() {
    let fixture = Fixture::new();
    fixture.vault().seal("registry", CANARY.into()).unwrap();
    let key = fixture.path("other.key");
    let error = Vault::open(&fixture.vault_path(), &Identity::load_or_create(&key).unwrap()).unwrap_err();
    assert!(matches!(error, SecretError::WrongIdentity { .. }), "{error}");
    assert!(error.to_string().contains(&key.display().to_string()), "{error}");
    assert!(error.hint().unwrap().contains("KSAIL_AGE_KEY"));
}

#[test]
fn a_vault_changed_or_cut_at_any_byte_is_refused() {
    let fixture = Fixture::new();
    fixture.vault().seal("registry", CANARY.into()).unwrap();
    let sealed = std::fs::read(fixture.vault_path()).unwrap();
    let check = |spoilt: &[u8], case: String| {
        std::fs::write(fixture.vault_path(), spoilt).unwrap();
        let error = Vault::open(&fixture.vault_path(), &fixture.identity).map(drop).expect_err(&case);
        let expected = matches!(error, SecretError::VaultDamaged { .. } | SecretError::WrongIdentity { .. });
        assert!(expected, "{case}: {error:?}");
        assert!(!format!("{error} {error:?}").contains(CANARY));
    };
    for at in 0..sealed.len() {
        let mut spoilt = sealed.clone();
        spoilt[at] ^= 1;
        check(&spoilt, format!("byte {at} changed"));
        check(&sealed[..at], format!("cut at byte {at}"));
    }
    check(&[sealed.as_slice(), b"x"].concat(), "one byte more".to_owned());
}

#[test]
fn a_newer_vault_is_refused() {
    let fixture = Fixture::new();
    let recipient: age::x25519::Recipient = fixture.identity.recipient().parse().unwrap();
    std::fs::create_dir_all(fixture.vault_path().parent().unwrap()).unwrap();
    let seal = |plain: &[u8]| std::fs::write(fixture.vault_path(), age::encrypt(&recipient, plain).unwrap()).unwrap();
    seal(b"{\"format\":2,\"unheard\":[]}");
    let error = Vault::open(&fixture.vault_path(), &fixture.identity).unwrap_err();
    assert!(matches!(error, SecretError::NewerVault { found: 2, known: 1, .. }), "{error}");
    seal(format!("{{\"format\":1,\"entries\":{{\"a\":\"{CANARY}\"}}}}").as_bytes());
    let error = Vault::open(&fixture.vault_path(), &fixture.identity).unwrap_err();
    assert!(matches!(error, SecretError::VaultDamaged { .. }), "{error}");
    assert!(!format!("{error:?}").contains(CANARY));
}

#[cfg(unix)]
#[test]
fn a_failed_seal_changes_nothing() {
    let fixture = Fixture::new();
    let mut vault = fixture.vault();
    vault.seal("a", "first".into()).unwrap();
    let large: SecretString = "x".repeat(VAULT_BYTES_MAX as usize).into();
    let error = vault.seal("b", large).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), std::io::Error::from(std::io::ErrorKind::FileTooLarge).to_string());
    assert_eq!(vault.names().collect::<Vec<_>>(), ["a"]);
    // A folder in the vault's place lets everything succeed but the last step.
    std::fs::rename(vault.path(), fixture.path("aside")).unwrap();
    std::fs::create_dir_all(vault.path().join("in the way")).unwrap();
    vault.seal("a", "second".into()).unwrap_err();
    assert_eq!(vault.get("a").unwrap().expose_secret(), "first");
    assert_eq!(files_in(vault.path().parent().unwrap()), 1, "temporary files are left");
}

#[test]
fn fingerprints_are_keyed_hmac_sha256() {
    let fixture = Fixture::new();
    // The second case of RFC 4231, whose key is padded with zeros here as HMAC itself pads keys.
    let mut key = [0_u8; 32];
    key[..4].copy_from_slice(b"Jefe");
    let plain = serde_json::json!({"format": 1, "fingerprint_key": key, "entries": {}}).to_string();
    let recipient: age::x25519::Recipient = fixture.identity.recipient().parse().unwrap();
    std::fs::create_dir_all(fixture.vault_path().parent().unwrap()).unwrap();
    std::fs::write(fixture.vault_path(), age::encrypt(&recipient, plain.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        fixture.vault().fingerprint(&"what do ya want for nothing?".into()),
        Fingerprint("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843".to_owned())
    );
}

#[test]
fn fingerprints_differ_by_text_and_by_vault() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let of = |fixture: &Fixture, text: &str| fixture.vault().fingerprint(&text.into());
    assert_eq!(of(&one, "a"), of(&one, "a"));
    assert_ne!(of(&one, "a"), of(&one, "b"));
    assert_ne!(of(&one, "a"), of(&two, "a"));
}

#[test]
fn identities_come_from_the_environment_before_the_file() {
    let fixture = Fixture::new();
    let file = Identity::file_below(&fixture.path("config"));
    let first = Identity::choose(None, &file).unwrap();
    assert_eq!(*first.origin(), IdentityOrigin::Created(file.clone()));
    let second = Identity::choose(None, &file).unwrap();
    assert_eq!(*second.origin(), IdentityOrigin::File(file.clone()));
    assert_eq!(first.recipient(), second.recipient());
    let other = Identity::generate();
    let third = Identity::choose(Some(&other.expose()), &file).unwrap();
    assert_eq!(*third.origin(), IdentityOrigin::Environment);
    assert_eq!(third.recipient(), other.recipient());
    assert_eq!(first.expose().expose_secret(), second.expose().expose_secret());
}

#[test]
fn of_processes_that_make_the_key_at_once_all_get_the_same() {
    let fixture = Fixture::new();
    let file = fixture.path("config/ksail/age.key");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            std::thread::spawn(move || Identity::load_or_create(&file).unwrap().recipient())
        })
        .collect();
    let recipients: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(recipients.iter().all(|recipient| *recipient == recipients[0]), "{recipients:?}");
    assert_eq!(files_in(file.parent().unwrap()), 1);
}

#[test]
fn an_unusable_identity_is_named_and_not_shown() {
    let fixture = Fixture::new();
    let good = Identity::generate().expose();
    let twice = format!("{0}\n{0}\n", good.expose_secret());
    for text in ["", "# only a comment\n", CANARY, "AGE-SECRET-KEY-1CANARY", twice.as_str()] {
        let error = Identity::parse(&text.into(), IdentityOrigin::Environment).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(shown.contains("KSAIL_AGE_KEY"), "{shown}");
        assert!(!shown.contains(CANARY) && !shown.contains("1CANARY"), "{shown}");
    }
    let path = fixture.path("age.key");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = Identity::load_or_create(&path).unwrap_err();
    assert!(matches!(error, SecretError::BadIdentity { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), [0xff, 0xfe], "a key file that was there was replaced");
}

#[test]
fn parts_of_every_source_are_joined() {
    let fixture = Fixture::new();
    let mut vault = fixture.vault();
    vault.seal("generated", "from the vault".into()).unwrap();
    std::fs::write(fixture.path("token"), "from a file\n").unwrap();
    let resolver = fixture.resolver(&env, Some(&vault));
    let text = resolver.resolve(&secret(&[
        SecretPart::Env("TOKEN".to_owned()),
        SecretPart::Literal(":".to_owned()),
        SecretPart::File("token".to_owned()),
        SecretPart::Literal("@".to_owned()),
        SecretPart::Vault("generated".to_owned()),
    ]));
    assert_eq!(text.unwrap().expose_secret(), format!("{CANARY}:from a file@from the vault"));
}

#[test]
fn one_newline_at_the_end_of_a_file_is_not_part_of_it() {
    let fixture = Fixture::new();
    let resolver = fixture.resolver(&env, None);
    for (content, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\na \n", "\na ")] {
        std::fs::write(fixture.path("token"), content).unwrap();
        let text = resolver.resolve(&secret(&[SecretPart::File("token".to_owned())])).unwrap();
        assert_eq!(text.expose_secret(), expected, "{content:?}");
    }
}

#[test]
fn what_cannot_be_resolved_is_named() {
    let fixture = Fixture::new();
    let vault = fixture.vault();
    std::fs::write(fixture.path("empty"), "\n").unwrap();
    std::fs::write(fixture.path("binary"), [0xff, 0xfe]).unwrap();
    std::fs::write(fixture.path("nothing"), "").unwrap();
    std::fs::File::create(fixture.path("large")).unwrap().set_len(2 * 1024 * 1024).unwrap();
    let check = |vault: Option<&Vault>, part: SecretPart, words: &[&str]| {
        let error = fixture.resolver(&env, vault).resolve(&secret(std::slice::from_ref(&part))).unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "{part:?}: `{error}` does not say `{word}`");
        }
        assert!(error.hint().is_some(), "{error}");
    };
    check(None, SecretPart::Env("NOT_THERE".into()), &["NOT_THERE", "not set"]);
    check(None, SecretPart::Env("EMPTY".into()), &["EMPTY", "is empty"]);
    check(None, SecretPart::File("missing".into()), &["missing", "cannot be read"]);
    check(None, SecretPart::File(".".into()), &["cannot be read"]);
    check(None, SecretPart::File("empty".into()), &["empty", "is empty"]);
    check(None, SecretPart::File("binary".into()), &["binary", "not text"]);
    check(None, SecretPart::File("large".into()), &["large", "too large"]);
    check(None, SecretPart::Command(vec!["fails".into()]), &["the command fails gives no secret: it failed"]);
    check(None, SecretPart::Command(vec!["silent".into()]), &["silent", "is empty"]);
    let encoded = |part| SecretPart::Base64(Box::new(part));
    check(None, encoded(SecretPart::File("nothing".into())), &["nothing", "is empty"]);
    check(None, encoded(SecretPart::Command(vec!["silent".into()])), &["silent", "is empty"]);
    check(None, SecretPart::Vault("generated".into()), &["generated", "no vault"]);
    check(Some(&vault), SecretPart::Vault("generated".into()), &["generated", "no entry"]);
    let observed = Secret::observed(Fingerprint("00".into()));
    let error = fixture.resolver(&env, Some(&vault)).resolve(&observed).unwrap_err();
    assert!(matches!(error, SecretError::OnlyObserved), "{error}");
}

#[test]
fn commands_give_texts_and_base64_gives_bytes_as_they_are() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("binary"), [0xff, 0xfe, b'\n']).unwrap();
    let resolver = fixture.resolver(&env, None);
    let text = |part: SecretPart| resolver.resolve(&secret(&[part])).unwrap().expose_secret().to_owned();
    let words = SecretPart::Command(vec!["op".to_owned(), "read".to_owned(), "a b".to_owned()]);
    assert_eq!(text(words.clone()), "op|read|a b");
    assert_eq!(text(SecretPart::Base64(Box::new(words))), "b3B8cmVhZHxhIGIK");
    assert_eq!(text(SecretPart::Base64(Box::new(SecretPart::File("binary".to_owned())))), "//4K");
    let of_variable = text(SecretPart::Base64(Box::new(SecretPart::Env("TOKEN".to_owned()))));
    assert_eq!(of_variable, base64_of(CANARY));
}

#[test]
fn values_get_fingerprints_and_give_texts() {
    let fixture = Fixture::new();
    let vault = fixture.vault();
    let seen = Secret::observed(Fingerprint("00".into()));
    let value = Value::map([
        ("plain", Value::from("x")),
        ("list", Value::from(vec![Value::Secret(Secret::env("TOKEN")), Value::Unknown])),
        ("seen", Value::Secret(seen.clone())),
    ]);
    let resolver = fixture.resolver(&env, Some(&vault));
    let filled = resolver.fingerprinted(&value).unwrap();
    let fingerprint = Some(vault.fingerprint(&CANARY.into()));
    let expected = Secret { fingerprint: fingerprint.clone(), ..Secret::env("TOKEN") };
    let secrets: BTreeMap<String, Secret> =
        filled.secrets().into_iter().map(|(path, secret)| (path.to_string(), secret.clone())).collect();
    assert_eq!(secrets, BTreeMap::from([("list[0]".to_owned(), expected), ("seen".to_owned(), seen)]));
    assert_eq!(filled.field("plain"), Some(&Value::from("x")));
    assert_eq!(resolver.fingerprinted(&filled).unwrap(), filled, "a second time changes nothing");
    assert!(!format!("{filled:?} {}", serde_json::to_string(&filled).unwrap()).contains(CANARY));

    let declared = Value::map([("a", Value::from(vec![Value::Secret(Secret::env("TOKEN"))]))]);
    let texts = resolver.texts(&declared).unwrap();
    assert_eq!(texts.keys().map(ToString::to_string).collect::<Vec<_>>(), ["a[0]"]);
    assert!(texts.values().all(|text| text.expose_secret() == CANARY));
    assert!(!format!("{texts:?}").contains(CANARY));

    let missing =
        Value::map([("a", Value::Secret(Secret::env("NOT_THERE"))), ("b", Value::Secret(Secret::env("TOKEN")))]);
    for error in [resolver.fingerprinted(&missing).map(drop), resolver.texts(&missing).map(drop)] {
        assert_eq!(error.unwrap_err().to_string(), "environment variable NOT_THERE is not set");
    }
}

#[test]
fn without_a_vault_there_are_no_fingerprints_but_missing_secrets_show() {
    let fixture = Fixture::new();
    let resolver = fixture.resolver(&env, None);
    let value = Value::Secret(Secret::env("TOKEN"));
    assert_eq!(resolver.fingerprinted(&value).unwrap(), value);
    resolver.fingerprinted(&Value::Secret(Secret::env("NOT_THERE"))).unwrap_err();
}

#[test]
fn the_canary_shows_nowhere() {
    let fixture = Fixture::new();
    let mut vault = fixture.vault();
    vault.seal("canary", CANARY.into()).unwrap();
    let identity = Identity::generate();
    let key = identity.expose().expose_secret().to_owned();
    let text = fixture.resolver(&env, Some(&vault)).resolve(&Secret::env("TOKEN")).unwrap();
    let mut shown = format!("{vault:?} {vault:#?} {identity:?} {identity:#?} {text:?} {}", identity.origin());
    shown.push_str(&format!("{:?}", vault.get("canary")));
    shown.push_str(&vault.fingerprint(&text).0);
    let sealed = std::fs::read(vault.path()).unwrap();
    assert!(!shown.contains(CANARY) && !shown.contains(&key), "{shown}");
    assert!(!String::from_utf8_lossy(&sealed).contains(CANARY));
    assert!(!String::from_utf8_lossy(&sealed).contains("canary"), "names of entries are sealed too");
}
