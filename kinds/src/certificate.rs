//! Certificates as the parts of Kubernetes hold them: in PEM, or that in base64 as a kubeconfig has it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use x509_cert::Certificate;
use x509_cert::der::DecodePem as _;

/// How long before its end a certificate counts as at its end, in seconds; of one that lasts less, a tenth of its time.
const EARLY: i64 = 7 * 24 * 3600;
/// What the text of one ends with; a key or the rest of a chain may come after it.
const END: &[u8] = b"-----END CERTIFICATE-----";

/// From when on and until when a certificate is valid, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    from: i64,
    /// Its end.
    pub to: i64,
}

impl Validity {
    /// That of the first certificate in a text; `None` where there is none that can be read.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let pem = match text.starts_with("-----") {
            true => text.as_bytes().to_vec(),
            false => BASE64_STANDARD.decode(text).ok()?,
        };
        let end = pem.windows(END.len()).position(|window| window == END)? + END.len();
        let validity = Certificate::from_pem(pem.get(..end)?).ok()?.tbs_certificate.validity;
        let second = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        Some(Self { from: second(validity.not_before)?, to: second(validity.not_after)? })
    }

    /// Whether it is over at a time in seconds since the epoch, or soon will be, so that another one is due.
    pub fn is_due(self, now: i64) -> bool {
        self.to - now < EARLY.min((self.to - self.from) / 10)
    }
}
