//! Rate limits, with the feature `limits`: how many requests a caller may make in a window.
//!
//! | File | Content |
//! | --- | --- |
//! | `rate_limit` | a limit, as an author declares it |
//! | `table` | the counts of this process, in a fixed amount of memory |
//! | `leases` | with the feature `store`: requests that are leased from the store in blocks |
//! | `limiter` | counts requests, by caller or by address |

#[cfg(feature = "store")]
mod leases;
pub(crate) mod limiter;
pub(crate) mod rate_limit;
mod table;

#[cfg(test)]
mod tests;
