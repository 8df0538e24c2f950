//! Whether the engine's machine speaks IPv6, which only some clusters ask for.

use ksail_model::Value;
use ksail_provider_docker::{HostFacts, Ipv6};

use super::{Check, Verdict, check as told};

/// What it is called.
const NAME: &str = "ipv6";

/// Whether something that is declared speaks it: a machine.
pub(super) fn is_needed(spec: &Value) -> bool {
    spec.field("ipv6").and_then(Value::as_bool) == Some(true)
}

/// How the engine's machine stands to it.
pub(super) fn check(facts: &HostFacts) -> Check {
    let bad = |found: &str, remedy: &str| told(NAME, Verdict::Bad, found, Some(remedy));
    match facts.own.as_ref().and_then(|own| own.ipv6) {
        Some(Ipv6::On) => told(NAME, Verdict::Good, "it is spoken", None),
        Some(Ipv6::Off) => bad(
            "it is turned off, and the file asks for it (`ipFamily`)",
            "`sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0`; in a file of /etc/sysctl.d/ it stays",
        ),
        Some(Ipv6::Missing) => bad(
            "the kernel has none, and the file asks for it (`ipFamily`)",
            "boot without `ipv6.disable=1`, or with a kernel that has it; or leave `ipFamily` out",
        ),
        Some(Ipv6::WithoutNat) => bad(
            "the kernel cannot translate its addresses, which services and pods need",
            "`sudo modprobe ip6table_nat`, once the package with the modules of this kernel is installed; then start the engine again",
        ),
        None => told(NAME, Verdict::Skipped, "the engine's machine is not this one, and does not tell", None),
    }
}

#[cfg(test)]
mod tests {
    use ksail_provider_docker::OwnFacts;

    use super::*;

    #[test]
    fn a_machine_without_ipv6_has_a_remedy() {
        let verdict = |ipv6| {
            let own =
                OwnFacts { inotify_instances: None, inotify_watches: None, ipv6, first_port: None, disk_free: None };
            let check = check(&HostFacts { own: Some(own), ..super::super::host::tests::facts(512, 0) });
            assert_eq!(check.remedy.is_some(), check.verdict == Verdict::Bad, "{check:?}");
            check.verdict
        };
        assert_eq!(verdict(Some(Ipv6::On)), Verdict::Good);
        for state in [Ipv6::Off, Ipv6::Missing, Ipv6::WithoutNat] {
            assert_eq!(verdict(Some(state)), Verdict::Bad);
        }
        assert_eq!(verdict(None), Verdict::Skipped);
    }

    #[test]
    fn only_what_speaks_it_asks_for_it() {
        assert!(is_needed(&Value::map([("ipv6", Value::from(true))])));
        assert!(!is_needed(&Value::map([("image", Value::from("x"))])));
    }
}
