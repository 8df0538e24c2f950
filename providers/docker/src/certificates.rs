//! The certificates by which the parts of Kubernetes on a machine know each other: which are lost or come to their end, and how they are
//! made anew. Authorities are not: what they have signed would be worth nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ksail_kinds::{MachineRole, MachineSpec, Validity};
use ksail_provider::CallError;
use tokio::time::Instant;

use crate::bootstrap;
use crate::call::Call;
use crate::container;
use crate::control_plane::{Member, members};
use crate::exec::{Parcel, download, look, run, upload};
use crate::steps::{self, FOLDER};
use crate::wait::last_look;

/// The folder of the work that makes them anew, and of what it needs.
const WORK: &str = "certificates";
/// What each file begins with in what a machine says.
const HEAD: &str = "#file ";
/// Where Kubernetes keeps its files, and where they lie on what the machine keeps.
const KUBERNETES: &str = "/etc/kubernetes";
/// The kubelet's own certificate, which it changes by itself as long as it reaches the API (`kubelet-client-current.pem`), and the file that
/// leads to it.
const KUBELET: &str = "kubelet";
const KUBELET_CONF: &str = "kubelet.conf";
/// The administrator's access: the same on all machines of a control plane, for users have it.
const ADMIN: &str = "admin.conf";
const AUTHORITY: &str = "pki/ca.crt";
/// Says that etcd runs on the machine.
const ETCD: &str = "manifests/etcd.yaml";
/// What is missed where it is lost, and the phase of kubeadm that makes it.
const ALWAYS: [(&str, &str); 6] = [
    ("pki/apiserver.crt", "certs apiserver"),
    ("pki/apiserver-kubelet-client.crt", "certs apiserver-kubelet-client"),
    ("pki/front-proxy-client.crt", "certs front-proxy-client"),
    (ADMIN, "kubeconfig admin"),
    ("controller-manager.conf", "kubeconfig controller-manager"),
    ("scheduler.conf", "kubeconfig scheduler"),
];
/// The same where etcd is on the machine.
const WITH_ETCD: [(&str, &str); 4] = [
    ("pki/apiserver-etcd-client.crt", "certs apiserver-etcd-client"),
    ("pki/etcd/healthcheck-client.crt", "certs etcd-healthcheck-client"),
    ("pki/etcd/peer.crt", "certs etcd-peer"),
    ("pki/etcd/server.crt", "certs etcd-server"),
];
/// What only the machine has that began the cluster.
const WHERE_IT_IS: (&str, &str) = ("super-admin.conf", "kubeconfig super-admin");
const AUTHORITIES: [&str; 3] = [AUTHORITY, "pki/front-proxy-ca.crt", "pki/etcd/ca.crt"];
/// How many lines of what was said a failure tells.
const TOLD: usize = 8;

/// Says the certificates of a machine, and nothing of their keys.
pub(crate) const GATHER: &str = r##"
cd /etc/kubernetes || exit 0
for file in pki/*.crt pki/etcd/*.crt; do
  if [ -e "$file" ]; then echo "#file $file"; cat "$file"; fi
done
for file in *.conf; do
  if [ -e "$file" ]; then echo "#file $file"; sed -n 's/^ *client-certificate-data: *//p' "$file"; fi
done
if [ -e manifests/etcd.yaml ]; then echo "#file manifests/etcd.yaml"; fi
if [ -e /var/lib/kubelet/pki/kubelet-client-current.pem ]; then
  echo "#file kubelet"
  sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' /var/lib/kubelet/pki/kubelet-client-current.pem
fi
"##;

/// By name below `/etc/kubernetes`, each as PEM, or in base64 as a kubeconfig holds it.
type Files = BTreeMap<String, String>;

/// A certificate that does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: &'static str,
    why: String,
}

/// What is said of a machine's certificates: that they are valid, or which are not and why.
fn told(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return MachineSpec::VALID.to_owned();
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for finding in findings {
        by_reason.entry(&finding.why).or_default().push(finding.file.trim_start_matches("pki/"));
    }
    let one = |(why, files): (&str, Vec<&str>)| format!("{why}: {}", files.join(", "));
    by_reason.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

fn files(said: &str) -> Files {
    let part = |part: &str| {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        (name.trim().to_owned(), text.to_owned())
    };
    said.split(HEAD).skip(1).map(part).collect()
}

/// What is said of the certificates that a machine has told. One that tells of none is no node yet.
pub(crate) fn state(said: &str, role: &str) -> String {
    let is_control_plane = role == MachineRole::ControlPlane.word();
    told(&judge(&files(said), is_control_plane, Timestamp::now()))
}

/// The same of a machine that stands still.
pub(crate) async fn state_of_stopped(call: &Call, id: &str, what: &str, role: &str) -> Result<String, CallError> {
    let is_control_plane = role == MachineRole::ControlPlane.word();
    let mut files = Files::new();
    let confs = ALWAYS.iter().map(|(file, _)| *file).chain([WHERE_IT_IS.0, KUBELET_CONF, ETCD]);
    let wanted = confs.filter(|file| file.ends_with(".conf") || *file == ETCD).chain(["pki"]);
    for file in wanted.filter(|file| is_control_plane || *file == KUBELET_CONF || *file == "pki") {
        for (name, text) in download(call, id, what, &format!("{KUBERNETES}/{file}")).await?.unwrap_or_default() {
            let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
            let text = if name.ends_with(".conf") { of_kubeconfig(&text) } else { text };
            if !name.ends_with(".key") {
                files.insert(format!("{folder}{name}"), text);
            }
        }
    }
    // The current one is a link.
    let of_kubelet = download(call, id, what, "/var/lib/kubelet/pki").await?.unwrap_or_default();
    let newest = of_kubelet.into_iter().filter(|(name, _)| name.contains("kubelet-client-")).max();
    files.extend(newest.map(|(_, text)| (KUBELET.to_owned(), text)));
    Ok(told(&judge(&files, is_control_plane, Timestamp::now())))
}

fn of_kubeconfig(text: &str) -> String {
    let data = text.lines().find_map(|line| line.trim().strip_prefix("client-certificate-data:"));
    data.unwrap_or_default().trim().to_owned()
}

fn judge(files: &Files, is_control_plane: bool, now: Timestamp) -> Vec<Finding> {
    // kubeadm has not been here, or not to its end: that is told elsewhere.
    if files.keys().all(|file| file == KUBELET) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut look = |file: &'static str, text: Option<&String>| {
        let why = text.map_or_else(|| Some("lost".to_owned()), |text| why_not(text, now));
        findings.extend(why.map(|why| Finding { file, why }));
    };
    let of_control_plane = AUTHORITIES.iter().chain(ALWAYS.iter().chain(&WITH_ETCD).map(|(file, _)| file));
    let has_etcd = files.contains_key(ETCD);
    for file in of_control_plane {
        let is_of_etcd = file.contains("etcd");
        if *file == AUTHORITY || (is_control_plane && (has_etcd || !is_of_etcd)) {
            look(file, files.get(*file));
        }
    }
    if files.contains_key(WHERE_IT_IS.0) {
        look(WHERE_IT_IS.0, files.get(WHERE_IT_IS.0));
    }
    // The file holds the certificate itself, or leads to it.
    let own = files.get(KUBELET_CONF);
    look(KUBELET_CONF, own.filter(|text| !text.trim().is_empty()).or(own.and(files.get(KUBELET))));
    findings
}

/// Why a certificate does not serve, or will not for long.
fn why_not(text: &str, now: Timestamp) -> Option<String> {
    let Some(validity) = Validity::of(text) else { return Some("not readable".to_owned()) };
    let verb = if validity.to <= now.as_second() { "ended" } else { "ends" };
    let day = Timestamp::from_second(validity.to).unwrap_or_default().to_zoned(TimeZone::UTC).strftime("%Y-%m-%d");
    validity.is_due(now.as_second()).then(|| format!("{verb} on {day}"))
}

/// Makes those anew that do not serve, and starts what uses them once more.
pub(crate) async fn renew(call: &Call, name: &str, machine: &MachineSpec) -> Result<(), CallError> {
    let doing = format!("make certificates of the node `{name}` anew");
    let findings = findings(call, name, machine.role, &doing).await?;
    if findings.is_empty() {
        return Ok(());
    }
    let is_control_plane = machine.role == MachineRole::ControlPlane;
    if let Some(lost) = findings.iter().find(|one| AUTHORITIES.contains(&one.file) && is_control_plane) {
        let why = format!("{} is {}, and with it all that it has signed", lost.file, lost.why);
        return Err(call.refused(&doing, &why).hint(format!(
            "put {KUBERNETES}/pki of a backup or of another control plane back, or replace the machine: `ksail plan --replace`"
        )));
    }
    let Some(config) = bootstrap::config_of(call, name, &doing).await? else {
        return Err(call.refused(&doing, "what kubeadm was told is lost").hint("`ksail plan --replace` makes it anew"));
    };
    let control_plane = members(&container::list(call).await?, &machine.cluster);
    let mut given = vec![("kubeadm.conf", config.clone())];
    let is_found = |file: &str| findings.iter().any(|finding| finding.file == file);
    if is_found(ADMIN)
        && let Some(access) = shared_access(call, name, &control_plane, &doing).await?
    {
        given.push((ADMIN, access));
    }
    if is_found(KUBELET_CONF) || is_found(AUTHORITY) {
        let through = if is_control_plane { name } else { first(call, &control_plane, &doing)? };
        given.push((KUBELET_CONF, kubelet_access(call, name, through, &config, &doing).await?));
        let authority = look(call, through, &doing, &["cat", &format!("{KUBERNETES}/{AUTHORITY}")]).await?;
        given.extend(authority.filter(|output| output.is_success()).map(|output| ("ca.crt", output.stdout)));
    }
    hand(call, name, &given, &doing).await?;
    let operation = call.context.operation.as_deref().unwrap_or_default();
    let whose = format!("{operation}: {}", told(&findings));
    let output = steps::work(call, name, &doing, WORK, &whose, &program(&findings, &given, is_control_plane)).await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(&doing, &output.end(TOLD))) }
}

async fn findings(call: &Call, name: &str, role: MachineRole, doing: &str) -> Result<Vec<Finding>, CallError> {
    let said = look(call, name, doing, &["sh", "-c", GATHER]).await?.map(|output| output.stdout).unwrap_or_default();
    Ok(judge(&files(&said), role == MachineRole::ControlPlane, Timestamp::now()))
}

/// The first machine of a control plane that runs: it signs, and the access that it has counts.
fn first<'m>(call: &Call, control_plane: &'m [Member], doing: &str) -> Result<&'m str, CallError> {
    let first = control_plane.iter().find(|member| member.is_running);
    let first = first.ok_or_else(|| CallError::transient(call.refused(doing, "no control plane runs").message))?;
    Ok(&first.name)
}

/// The administrator's access of the first machine, once that serves; `None` for that machine itself.
async fn shared_access(
    call: &Call,
    name: &str,
    control_plane: &[Member],
    doing: &str,
) -> Result<Option<String>, CallError> {
    let first = first(call, control_plane, doing)?;
    if first == name {
        return Ok(None);
    }
    let last_look = last_look(call);
    loop {
        let output = look(call, first, doing, &["cat", &format!("{KUBERNETES}/{ADMIN}")]).await?;
        let text = output.filter(|output| output.is_success()).map(|output| output.stdout);
        if let Some(text) = text.filter(|text| why_not(&of_kubeconfig(text), Timestamp::now()).is_none()) {
            return Ok(Some(text));
        }
        if Instant::now() >= last_look {
            let why = format!("`{first}` has no administrator's access that serves");
            return Err(CallError::transient(call.refused(doing, &why).message));
        }
        call.pause(doing, std::time::Duration::from_millis(500)).await?;
    }
}

/// A kubeconfig for the kubelet of a machine, signed by a control plane.
async fn kubelet_access(
    call: &Call,
    name: &str,
    through: &str,
    config: &str,
    doing: &str,
) -> Result<String, CallError> {
    let file = format!("{name}.kubeadm.conf");
    hand(call, through, &[(&file, config.to_owned())], doing).await?;
    let config = format!("--config={FOLDER}/{WORK}/{file}");
    let user = format!("--client-name=system:node:{name}");
    let command = ["kubeadm", "kubeconfig", "user", "--org=system:nodes", &user, &config];
    let output = run(call, through, doing, &command, "").await?;
    if output.is_success() { Ok(output.stdout) } else { Err(call.refused(doing, &output.end(TOLD))) }
}

/// Puts files beside the work, for root alone.
async fn hand(call: &Call, machine: &str, given: &[(&str, String)], doing: &str) -> Result<(), CallError> {
    let mut parcel = Parcel::new();
    let folder = format!("{}/{WORK}", FOLDER.trim_start_matches('/'));
    let packed = given.iter().try_for_each(|(name, text)| parcel.secret(&format!("{folder}/{name}"), text));
    let packed = packed.and_then(|()| parcel.bytes()).map_err(|error| call.refused(doing, &error.to_string()))?;
    upload(call, machine, doing, "/", packed).await
}

/// Installs what was signed elsewhere as the kubelet itself would have it.
const TAKE_KUBELET: &str = r#"umask 077
mkdir -p /var/lib/kubelet/pki
pem=/var/lib/kubelet/pki/kubelet-client-$(date -u +%Y-%m-%d-%H-%M-%S).pem
for part in certificate key; do sed -n "s/^ *client-$part-data: *//p" "$given/kubelet.conf" | base64 -d; done >"$pem"
ln -sfn "$pem" /var/lib/kubelet/pki/kubelet-client-current.pem
current=/var/lib/kubelet/pki/kubelet-client-current.pem
sed "s#client-certificate-data:.*#client-certificate: $current#; s#client-key-data:.*#client-key: $current#" "$given/kubelet.conf" >kubelet.conf.new
mv kubelet.conf.new kubelet.conf
"#;
/// What holds certificates in memory is started anew: the kubelet, and the programs of a control plane, which it starts again.
const AGAIN: &str = r#"systemctl stop kubelet
for program in kube-scheduler kube-controller-manager kube-apiserver etcd; do
  for id in $(ctr --namespace=k8s.io containers list --quiet "labels.\"io.kubernetes.container.name\"==$program" 2>/dev/null); do
    ctr --namespace=k8s.io tasks kill --signal SIGKILL "$id" 2>/dev/null || true
  done
done
systemctl start kubelet
"#;

fn program(findings: &[Finding], given: &[(&str, String)], is_control_plane: bool) -> String {
    let is_given = |name: &str| given.iter().any(|(given, _)| *given == name);
    let mut program = format!("set -eu\ngiven={FOLDER}/{WORK}\ncd {KUBERNETES}\n");
    if !is_control_plane && is_given("ca.crt") {
        program.push_str("mkdir -p pki\ncp \"$given/ca.crt\" pki/ca.crt\n");
    }
    let phases = ALWAYS.iter().chain(&WITH_ETCD).chain([&WHERE_IT_IS]);
    for (file, phase) in phases.filter(|(file, _)| findings.iter().any(|finding| finding.file == *file)) {
        let made = match is_given(file) {
            true => format!("cp \"$given/{file}\" {file}\n"),
            false => format!("kubeadm init phase {phase} --config=\"$given/kubeadm.conf\"\n"),
        };
        let key = file.strip_suffix(".crt").map(|stem| format!(" {stem}.key")).unwrap_or_default();
        program.push_str(&format!("rm -f {file}{key}\n{made}"));
    }
    if is_given(KUBELET_CONF) {
        program.push_str(TAKE_KUBELET);
    }
    program.push_str(AGAIN);
    program.push_str("rm -f \"$given\"/*.conf \"$given\"/ca.crt\n");
    program
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// A certificate of the years from and to, as PEM.
    fn certificate(from: i32, to: i32) -> String {
        let mut parameters = rcgen::CertificateParams::new(vec!["dev".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What a machine of a control plane has, all of it good for the years from and to.
    fn of_control_plane(from: i32, to: i32) -> Files {
        let pem = certificate(from, to);
        let all = ALWAYS.iter().chain(&WITH_ETCD).map(|(file, _)| *file).chain(AUTHORITIES);
        let text = |file: &str| if file.ends_with(".conf") { BASE64_STANDARD.encode(&pem) } else { pem.clone() };
        let mut files: Files = all.map(|file| (file.to_owned(), text(file))).collect();
        files.extend([(KUBELET_CONF, ""), (KUBELET, pem.as_str()), (ETCD, "")].map(|(a, b)| (a.into(), b.into())));
        files
    }

    #[test]
    fn a_certificate_counts_as_at_its_end_shortly_before() {
        let pem = certificate(2026, 2027);
        assert_eq!(why_not(&pem, at("2026-06-01T00:00:00Z")), None);
        assert_eq!(why_not(&pem, at("2026-12-27T00:00:00Z")).as_deref(), Some("ends on 2027-01-01"));
        assert_eq!(why_not(&pem, at("2027-01-02T00:00:00Z")).as_deref(), Some("ended on 2027-01-01"));
        assert_eq!(why_not(&BASE64_STANDARD.encode(&pem), at("2026-06-01T00:00:00Z")), None, "as kubeconfigs have it");
        let with_key = format!("{pem}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert_eq!(why_not(&with_key, at("2026-06-01T00:00:00Z")), None);
        assert_eq!(why_not("nonsense", at("2026-06-01T00:00:00Z")).as_deref(), Some("not readable"));
    }

    #[test]
    fn what_is_lost_is_told_by_its_name_and_what_is_not_expected_is_not_missed() {
        let now = at("2026-06-01T00:00:00Z");
        let all = of_control_plane(2026, 2027);
        assert_eq!(told(&judge(&all, true, now)), "valid");
        let without = |file: &str| {
            let mut files = all.clone();
            files.remove(file);
            told(&judge(&files, true, now))
        };
        assert_eq!(without("pki/apiserver.crt"), "lost: apiserver.crt");
        assert_eq!(without("pki/etcd/peer.crt"), "lost: etcd/peer.crt");
        assert_eq!(without(KUBELET), "lost: kubelet.conf");
        // An etcd elsewhere has its own, and a worker has what the kubelet needs.
        let mut elsewhere = all.clone();
        elsewhere.retain(|file, _| !file.contains("etcd"));
        assert_eq!(told(&judge(&elsewhere, true, now)), "valid");
        let worker: Files = all
            .clone()
            .into_iter()
            .filter(|(file, _)| [AUTHORITY, KUBELET, KUBELET_CONF].contains(&file.as_str()))
            .collect();
        assert_eq!(told(&judge(&worker, false, now)), "valid");
        assert_eq!(
            told(&judge(&worker, false, at("2027-06-01T00:00:00Z"))),
            "ended on 2027-01-01: ca.crt, kubelet.conf"
        );
        assert_eq!(told(&judge(&Files::new(), true, now)), "valid", "kubeadm has not been there");
    }

    #[test]
    fn what_a_machine_says_is_taken_apart() {
        let said = "#file pki/ca.crt\n-----BEGIN\n#file kubelet.conf\n#file manifests/etcd.yaml\n";
        let files = files(said);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["kubelet.conf", "manifests/etcd.yaml", "pki/ca.crt"]);
        assert_eq!(files["kubelet.conf"], "");
    }

    #[test]
    fn only_what_does_not_serve_is_made_anew_and_its_key_with_it() {
        let finding = |file| Finding { file, why: "lost".to_owned() };
        let given = [("kubeadm.conf", String::new())];
        let program = program(&[finding("pki/etcd/peer.crt"), finding(ADMIN)], &given, true);
        assert!(
            program.contains("rm -f pki/etcd/peer.crt pki/etcd/peer.key\nkubeadm init phase certs etcd-peer --config")
        );
        assert!(program.contains("rm -f admin.conf\nkubeadm init phase kubeconfig admin --config"));
        assert!(!program.contains("apiserver.crt") && !program.contains("kubelet-client"), "{program}");
        // The access of another machine is taken as it is.
        let given = [("kubeadm.conf", String::new()), (ADMIN, String::new())];
        assert!(
            super::program(&[finding(ADMIN)], &given, true)
                .contains("rm -f admin.conf\ncp \"$given/admin.conf\" admin.conf")
        );
    }
}
