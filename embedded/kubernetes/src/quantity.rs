//! Quantities such as `100m` or `1Gi`, in the form in which a server writes them.

/// Digits after the point that a quantity may have; more are rounded up.
const MAX_SCALE: i32 = 9;

/// How the exponent was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Binary,
    Decimal,
    Exponent,
}

/// An amount: `mantissa × 10^exponent`, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// In units of 10⁻⁹.
    nanos: i128,
    suffix: Suffix,
}

impl Quantity {
    /// Reads a quantity; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits_end = rest.find(|of: char| !of.is_ascii_digit() && of != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (binary, decimal, kind) = match suffix {
            "" => (0, 0, Suffix::Decimal),
            "n" => (0, -9, Suffix::Decimal),
            "u" => (0, -6, Suffix::Decimal),
            "m" => (0, -3, Suffix::Decimal),
            "k" => (0, 3, Suffix::Decimal),
            "M" => (0, 6, Suffix::Decimal),
            "G" => (0, 9, Suffix::Decimal),
            "T" => (0, 12, Suffix::Decimal),
            "P" => (0, 15, Suffix::Decimal),
            "E" => (0, 18, Suffix::Decimal),
            "Ki" => (10, 0, Suffix::Binary),
            "Mi" => (20, 0, Suffix::Binary),
            "Gi" => (30, 0, Suffix::Binary),
            "Ti" => (40, 0, Suffix::Binary),
            "Pi" => (50, 0, Suffix::Binary),
            "Ei" => (60, 0, Suffix::Binary),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                (0, exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 18)?, Suffix::Exponent)
            }
        };
        // All digits as one number, times a power of ten.
        let mut mantissa: i128 = 0;
        let mut scale = decimal;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        scale -= i32::try_from(fraction.len()).ok()?;
        mantissa = mantissa.checked_shl(binary).filter(|shifted| shifted >> binary == mantissa)?;
        let by = scale + MAX_SCALE;
        let nanos = if by >= 0 {
            mantissa.checked_mul(10_i128.checked_pow(by.unsigned_abs())?)?
        } else {
            let divisor = 10_i128.checked_pow(by.unsigned_abs())?;
            // What cannot be told apart is rounded up.
            mantissa / divisor + i128::from(mantissa % divisor != 0)
        };
        Some(Self { nanos: if negative { -nanos } else { nanos }, suffix: kind })
    }

    /// The amount in units of 10⁻⁹.
    pub(crate) const fn nanos(self) -> i128 {
        self.nanos
    }

    /// The form in which a server writes it.
    pub(crate) fn canonical(self) -> String {
        const UNIT: i128 = 1_000_000_000;
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let whole = self.nanos / UNIT;
        let is_whole = self.nanos % UNIT == 0;
        if self.suffix == Suffix::Binary && is_whole && whole.abs() >= 1024 {
            let mut number = whole;
            let mut step = 0;
            while number % 1024 == 0 && step < 6 {
                number /= 1024;
                step += 1;
            }
            return format!("{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let mut number = self.nanos;
        let mut exponent = -MAX_SCALE;
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.suffix == Suffix::Exponent && exponent != 0 {
            return format!("{number}e{exponent}");
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        format!("{number}{suffix}")
    }
}

/// A quantity in the form in which a server writes it; `None` if it is none.
pub(crate) fn canonical(text: &str) -> Option<String> {
    Quantity::parse(text).map(Quantity::canonical)
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn quantities_are_written_as_the_server_writes_them() {
        for (given, written) in [
            ("1000m", "1"),
            ("2", "2"),
            ("0.5", "500m"),
            ("1048576Ki", "1Gi"),
            ("2.5Gi", "2560Mi"),
            ("1e9", "1e9"),
            ("1e15", "1e15"),
            ("1024Mi", "1Gi"),
            ("10240Mi", "10Gi"),
            ("1", "1"),
            ("100000m", "100"),
            ("1024Gi", "1Ti"),
            ("9000", "9k"),
            ("0", "0"),
            ("-1500m", "-1500m"),
            ("0.5Gi", "512Mi"),
            ("1.5e3", "1500"),
            ("500Ki", "500Ki"),
            ("1000Ki", "1000Ki"),
            ("100Ki", "100Ki"),
            ("0.1Ki", "102400m"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(written), "{given}");
        }
        for wrong in ["", "x", "1x", "1..2", "1e", "-", "1 Gi"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
