//! The units that scenario files use: durations, ranges of durations, rates, sizes, bandwidths.

/// A span of virtual time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub u64);

impl Duration {
    /// In seconds, for printing.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ns = self.0;
        match ns {
            0 => write!(f, "0s"),
            _ if ns.is_multiple_of(3_600_000_000_000) => write!(f, "{}h", ns / 3_600_000_000_000),
            _ if ns.is_multiple_of(60_000_000_000) => write!(f, "{}m", ns / 60_000_000_000),
            _ if ns.is_multiple_of(1_000_000_000) => write!(f, "{}s", ns / 1_000_000_000),
            _ if ns.is_multiple_of(1_000_000) => write!(f, "{}ms", ns / 1_000_000),
            1_000_000_000.. => write!(f, "{:.3}s", ns as f64 / 1e9),
            1_000_000.. => write!(f, "{:.3}ms", ns as f64 / 1e6),
            _ => write!(f, "{}us", ns as f64 / 1e3),
        }
    }
}

/// Two durations, drawn between by the seed; a single one is a range of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DurationRange {
    /// The shortest.
    pub low: Duration,
    /// The longest.
    pub high: Duration,
}

impl std::fmt::Display for DurationRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}..{}", self.low, self.high)
        }
    }
}

/// Splits `12.5ms` into the number and the unit behind it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

/// `250us`, `10ms`, `5s`, `2m`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let ns = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    let value = (number * ns).round();
    // 2^53 ns are 104 days: beyond that a float no longer holds every nanosecond, and no run is that long.
    (0.0..9.0e15).contains(&value).then_some(Duration(value as u64))
}

/// A duration, or two with `..` between them, the first not the longer.
pub fn duration_range(text: &str) -> Option<DurationRange> {
    let (low, high) = match text.split_once("..") {
        Some((low, high)) => (duration(low)?, duration(high)?),
        None => {
            let both = duration(text)?;
            (both, both)
        }
    };
    (low <= high).then_some(DurationRange { low, high })
}

/// `100/s`, in events per second; `30/m` too. None at all is `0/s`.
pub fn rate(text: &str) -> Option<f64> {
    let (number, per) = text.split_once('/')?;
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    match per {
        "s" => Some(number),
        "m" => Some(number / 60.0),
        "h" => Some(number / 3600.0),
        _ => None,
    }
}

/// `512B`, `64KiB`, `10MiB`, `1GiB`; powers of ten with `KB`, `MB`, `GB`.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    let value = number * factor as f64;
    (0.0..9.0e15).contains(&value).then_some(value as u64)
}

/// `100KiB/s`, in bytes per second.
pub fn bandwidth(text: &str) -> Option<u64> {
    size(text.strip_suffix("/s")?).filter(|b| *b > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("250us", Some(250_000)),
            ("10ms", Some(10_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("2m", Some(120_000_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("5 s", None),
            ("5sec", None),
            ("1e3s", None),
            ("99999999h", None),
        ] {
            assert_eq!(duration(text), want.map(Duration), "{text}");
        }
        assert_eq!(duration_range("1s..5s").unwrap().high, Duration(5_000_000_000));
        assert_eq!(duration_range("5s..1s"), None);
        assert_eq!(
            duration_range("2s").unwrap(),
            DurationRange { low: Duration(2_000_000_000), high: Duration(2_000_000_000) }
        );
        for text in ["10s", "90s", "1500ms", "2m", "3h", "250us"] {
            assert_eq!(duration(&duration(text).unwrap().to_string()), duration(text));
        }
    }

    #[test]
    fn rates_sizes_bandwidths() {
        assert_eq!(rate("100/s"), Some(100.0));
        assert_eq!(rate("0.5/s"), Some(0.5));
        assert_eq!(rate("30/m"), Some(0.5));
        assert_eq!(rate("0/s"), Some(0.0));
        assert_eq!(rate("-1/s"), None);
        assert_eq!(rate("100"), None);
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("100"), Some(100));
        assert_eq!(size("1 KiB"), None);
        assert_eq!(bandwidth("100KiB/s"), Some(102_400));
        assert_eq!(bandwidth("100KiB"), None);
    }
}
