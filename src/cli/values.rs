//! How durations, sizes and modes are written.

use std::time::Duration;

/// `2s`, `5m`, `1h`, `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write it as 250ms, 2s, 5m, 1h or 1d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 250ms, 2s, 5m, 1h or 1d".to_owned())?;
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(|| "too long".into())
}

/// `64MiB`, `1GiB`, `1000000`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err("write it as 64MiB or 1GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 64MiB or 1GiB".to_owned())?;
    number.checked_mul(scale).ok_or_else(|| "too large".into())
}

pub(super) fn memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).map_err(|_| "too large".to_owned())?;
    if bytes < 32 << 20 { Err("32MiB is the least".into()) } else { Ok(bytes) }
}

pub(super) fn cache_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < 16 << 20 { Err("16MiB is the least".into()) } else { Ok(bytes) }
}

/// The id of an AWS account.
pub(super) fn account(text: &str) -> Result<String, String> {
    let fits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.to_owned()).ok_or_else(|| "write the account's 12 digits".into())
}

/// In lower case.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 has 64 hexadecimal digits".into())
    }
}

pub(super) fn mode(text: &str) -> Result<u16, String> {
    let bits = u16::from_str_radix(text, 8).map_err(|_| "write it in octal, as 0440".to_owned())?;
    if bits & !0o555 != 0 {
        Err("only bits for reading and searching: the mount is read-only".into())
    } else {
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "5", "5 s", "-1s", "99999999999999999999s", "18446744073709551615h", "5µs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("10"), Ok(10));
        assert!(size("1XB").is_err() && size("99999999999TiB").is_err());
        assert!(memory("1MiB").is_err() && cache_size("15MiB").is_err());
        assert_eq!(cache_size("16MiB"), Ok(16 << 20));
        assert!(account("123456789012").is_ok() && account("12345678901").is_err() && account("12345678901x").is_err());
        assert_eq!(mode("0440"), Ok(0o440));
        assert_eq!(sha256(&"aB".repeat(32)), Ok("ab".repeat(32)));
        assert!(sha256(&"ab".repeat(31)).is_err() && sha256(&"g".repeat(64)).is_err());
        assert!(mode("0644").is_err() && mode("9").is_err());
    }
}
