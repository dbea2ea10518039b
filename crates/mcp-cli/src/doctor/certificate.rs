//! The expiry of a certificate (RFC 5280, section 4.1.2.5). TLS checks everything else.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER, in seconds since the epoch.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    // Serial number, signature and issuer come before the validity.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, _, end) = element(validity)?;
    let (tag, time, _) = element(end)?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// The tag and the content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, time: &str) -> Option<i64> {
    let digits = time.strip_suffix('Z').filter(|own| own.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME => digits.split_at_checked(2)?,
        GENERALIZED_TIME => digits.split_at_checked(4)?,
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let mut year: i64 = year.parse().ok()?;
    if tag == UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let (month, day) = (part(0)?, part(2)?);
    // Days of the Gregorian calendar, from the first of March of the year 0 on.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + part(4)?) * 60 + part(6)?) * 60 + part(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (tag, time, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261126223450Z", Some(1_795_732_490)),
            (GENERALIZED_TIME, "20500301000000Z", Some(2_529_705_600)),
            (GENERALIZED_TIME, "20000229235959Z", Some(951_868_799)),
            (UTC_TIME, "2611262234Z", None),
            (UTC_TIME, "261126223450+0100", None),
            (0x02, "261126223450Z", None),
        ] {
            assert_eq!(seconds(tag, time), expected, "{time}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let sequence = |content: &[u8]| [&[SEQUENCE, u8::try_from(content.len()).unwrap()], content].concat();
        let time = |text: &str| [&[UTC_TIME, 13], text.as_bytes()].concat();
        let validity = sequence(&[time("250101000000Z"), time("261126223450Z")].concat());
        let begin = [&[VERSION, 3, 2, 1, 2, 2, 1, 7, SEQUENCE, 0, SEQUENCE, 0][..], &validity].concat();
        let certificate = sequence(&sequence(&begin));

        assert_eq!(not_after(&certificate), Some(1_795_732_490));
        for length in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..length]), None, "{length}");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(&[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]), None);
    }
}
