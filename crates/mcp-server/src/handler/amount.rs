//! Amounts of progress.

/// An amount of progress, done or in total: any number, or `None` if it is unknown.
///
/// Clients receive a floating-point number. Whole numbers are exact up to 2^53 and rounded to the nearest beyond.
///
/// ```
/// # use mcp_server::Amount;
/// let files = ["a.csv", "b.csv"];
/// assert_eq!(Amount::from(files.len()), Amount::from(2.0));
///
/// let bytes: Option<u64> = None;
/// assert_eq!(Amount::from(bytes.map(Amount::from)), Amount::from(None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount(Option<f64>);

impl Amount {
    /// Returns the number, if it is known and finite.
    pub(crate) fn finite(self) -> Option<f64> {
        self.0.filter(|number| number.is_finite())
    }
}

impl From<Option<Amount>> for Amount {
    fn from(amount: Option<Amount>) -> Self {
        Self(amount.and_then(|Self(number)| number))
    }
}

macro_rules! exact {
    ($($number:ty),*) => {$(
        impl From<$number> for Amount {
            fn from(number: $number) -> Self {
                Self(Some(number.into()))
            }
        }
    )*};
}

macro_rules! rounded {
    ($($number:ty),*) => {$(
        impl From<$number> for Amount {
            #[expect(clippy::cast_precision_loss, reason = "rounded beyond 2^53, as the type documents")]
            fn from(number: $number) -> Self {
                Self(Some(number as f64))
            }
        }
    )*};
}

exact!(u8, u16, u32, i8, i16, i32, f32, f64);
rounded!(u64, i64, usize, isize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact_up_to_2_to_the_53() {
        const EXACT: u64 = 1 << 53;

        assert_eq!(Amount::from(EXACT - 1).finite(), Some(9_007_199_254_740_991.0));
        assert_eq!(Amount::from(EXACT + 1).finite(), Amount::from(EXACT).finite(), "rounded to even");
        assert_eq!((Amount::from(-3_i64).finite(), Amount::from(7_usize).finite()), (Some(-3.0), Some(7.0)));
    }

    #[test]
    fn unknown_and_infinite_amounts_have_no_number() {
        for amount in [Amount::from(None), Amount::from(f64::NAN), Amount::from(f64::INFINITY)] {
            assert_eq!(amount.finite(), None);
        }
        assert_eq!(Amount::from(Some(Amount::from(5_u64))).finite(), Some(5.0));
    }
}
