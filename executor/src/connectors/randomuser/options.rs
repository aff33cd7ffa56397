//! Options of the `randomuser` source, and which pages they ask for.

use crate::connectors::Options;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// The public service.
const PUBLIC: &str = "https://randomuser.me/api/1.4/";
/// The service answers a request for more with one user, without a word.
pub const PAGE_SIZE_MAX: u64 = 5_000;
/// And any page beyond with the first.
pub const PAGES_MAX: u64 = 10_000;
/// What the public service lets one client have in [`WINDOW`].
pub const USERS_PER_WINDOW: u64 = 20_000;
/// See [`USERS_PER_WINDOW`].
pub const WINDOW: Duration = Duration::from_secs(300);

/// Nationalities: an unknown one silently means all.
pub const NATIONALITIES: [&str; 21] = [
    "AU", "BR", "CA", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IN", "IR", "MX", "NL", "NO", "NZ", "RS", "TR",
    "UA", "US",
];

const NAMES: [&str; 15] = [
    "url",
    "users",
    "pageSize",
    "pages",
    "pagesPerPartition",
    "seed",
    "nat",
    "keepRaw",
    "requestsPerSecond",
    "usersPerWindow",
    "window",
    "retries",
    "timeout",
    "retryAfterMax",
    "checkpointLocation",
];

/// One request: a page and how many users it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// From 1.
    pub page: u32,
    /// Users on it.
    pub results: u32,
}

/// How fast requests may follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Users in each window of time; none: any number.
    pub users: Option<u64>,
    /// That window.
    pub window: Duration,
    /// Requests in a second; none: any number.
    pub requests_per_second: Option<f64>,
}

impl Pace {
    /// The pace of each of `parts` that together keep this one.
    pub fn shared(self, parts: usize) -> Self {
        let parts = parts.max(1);
        Self {
            users: self.users.map(|users| users / parts as u64),
            requests_per_second: self.requests_per_second.map(|rate| rate / parts as f64),
            ..self
        }
    }
}

/// All that a read is told.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomUserOptions {
    /// The service or a mirror of it.
    pub url: Url,
    /// What is asked for, in ascending order.
    pub pages: Vec<Page>,
    /// Pages that one plan partition reads.
    pub pages_per_partition: Option<usize>,
    /// Fixes the users, with page and results.
    pub seed: Option<String>,
    /// By comma; none: all.
    pub nat: Option<String>,
    /// Whether the reply is kept, without secrets.
    pub keep_raw: bool,
    /// How fast.
    pub pace: Pace,
    /// Times a request is repeated.
    pub retries_max: u32,
    /// Time for one request and its reply.
    pub timeout: Duration,
    /// The longest pause that the service may ask for; zero: none is waited for.
    pub retry_after_max: Duration,
}

fn wrong_value(name: &str, value: &str, expected: &str) -> Error {
    Error::invalid("RANDOMUSER_INVALID_OPTION", format!("option {name} is '{value}': expected {expected}"))
}

/// `250ms`, `5s`, `5m`, `1h`, or a number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    let millis = match &text[digits.len()..] {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// `1-4,7`: pages from 1, each once.
fn page_list(text: &str) -> Option<BTreeSet<u64>> {
    let mut pages = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first < 1 || first > last || last > PAGES_MAX {
            return None;
        }
        pages.extend(first..=last);
    }
    Some(pages)
}

/// Pages of a run of `users` users; `wanted`: only these.
fn pages(users: u64, page_size: u64, wanted: Option<&BTreeSet<u64>>) -> Vec<Page> {
    let page = |page: u64| Page { page: page as u32, results: page_size.min(users - (page - 1) * page_size) as u32 };
    (1..=users.div_ceil(page_size)).filter(|at| wanted.is_none_or(|wanted| wanted.contains(at))).map(page).collect()
}

impl RandomUserOptions {
    /// Reads and checks the options.
    ///
    /// # Errors
    /// A name that is unknown, or a value that does not parse or that the service would silently replace.
    pub fn parse(options: &Options) -> Result<Self> {
        for (name, _) in options.iter() {
            if !NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(Error::invalid(
                    "RANDOMUSER_UNKNOWN_OPTION",
                    format!("option {name} is not known to data source randomuser; there are {}", NAMES.join(", ")),
                ));
            }
        }
        let text = |name: &str| options.get(name).map(str::trim).filter(|text| !text.is_empty());
        let invalid = |name: &str, expected: &str| wrong_value(name, options.get(name).unwrap_or_default(), expected);
        fn number<T: FromStr>(text: Option<&str>) -> Result<Option<T>, ()> {
            text.map(|text| text.parse().map_err(|_| ())).transpose()
        }
        let time = |name: &str, default: Duration| match text(name) {
            None => Ok(default),
            Some(given) => duration(given).ok_or_else(|| invalid(name, "a time such as 30s, 5m or 1h")),
        };
        let url = text("url").unwrap_or(PUBLIC);
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| {
            // Not its text: it may hold a login.
            Error::invalid("RANDOMUSER_INVALID_OPTION", "option url is no address: give http://host/api/ or https://…")
        })?;
        let sizes = "a number from 1 to 5000: the service answers any other with one user";
        let page_size: u64 = number(text("pageSize")).map_err(|()| invalid("pageSize", sizes))?.unwrap_or(1_000);
        if !(1..=PAGE_SIZE_MAX).contains(&page_size) {
            return Err(invalid("pageSize", sizes));
        }
        let list = "pages from 1 to 10000, such as 1-4,7";
        let wanted = text("pages").map(|given| page_list(given).ok_or_else(|| invalid("pages", list))).transpose()?;
        let positive = "a whole number above 0";
        let users: Option<u64> = number(text("users")).map_err(|()| invalid("users", positive))?;
        let last = wanted.as_ref().and_then(|wanted| wanted.last().copied());
        let users = match (users, last) {
            (Some(0), _) => return Err(invalid("users", positive)),
            (Some(users), _) => users,
            (None, Some(last)) => last * page_size,
            (None, None) => {
                return Err(Error::invalid("RANDOMUSER_MISSING_OPTION", "data source randomuser needs option users"));
            }
        };
        if users.div_ceil(page_size) > PAGES_MAX {
            return Err(invalid(
                "users",
                "no more than 10000 pages of option pageSize: the service has no page beyond",
            ));
        }
        if let Some(last) = last.filter(|last| *last > users.div_ceil(page_size)) {
            return Err(invalid("pages", &format!("pages of {users} users by {page_size}, which end before {last}")));
        }
        let nat = match text("nat") {
            None => None,
            Some(given) => {
                let names: Vec<String> = given.split(',').map(|name| name.trim().to_ascii_uppercase()).collect();
                if !names.iter().all(|name| NATIONALITIES.contains(&name.as_str())) {
                    return Err(invalid("nat", &format!("some of {}, by comma", NATIONALITIES.join(","))));
                }
                Some(names.join(","))
            }
        };
        let keep_raw = match text("keepRaw").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(invalid("keepRaw", "true or false")),
        };
        let rates = "a number above 0, or 0 for no limit";
        let rate: Option<f64> = number(text("requestsPerSecond")).map_err(|()| invalid("requestsPerSecond", rates))?;
        if rate.is_some_and(|rate| !rate.is_finite() || rate < 0.0) {
            return Err(invalid("requestsPerSecond", rates));
        }
        let budget = match text("usersPerWindow") {
            None => USERS_PER_WINDOW,
            Some(given) if given.eq_ignore_ascii_case("unlimited") => 0,
            Some(given) => given.parse().map_err(|_| invalid("usersPerWindow", "a whole number, or unlimited"))?,
        };
        if budget > 0 && budget < page_size {
            return Err(invalid("usersPerWindow", &format!("at least option pageSize, {page_size}")));
        }
        let pages_per_partition: Option<usize> =
            number(text("pagesPerPartition")).map_err(|()| invalid("pagesPerPartition", positive))?;
        if pages_per_partition == Some(0) {
            return Err(invalid("pagesPerPartition", positive));
        }
        Ok(Self {
            url,
            pages: pages(users, page_size, wanted.as_ref()),
            pages_per_partition,
            seed: text("seed").map(String::from),
            nat,
            keep_raw,
            pace: Pace {
                users: (budget > 0).then_some(budget),
                window: time("window", WINDOW)?,
                requests_per_second: rate.filter(|rate| *rate > 0.0),
            },
            retries_max: number(text("retries")).map_err(|()| invalid("retries", "a whole number"))?.unwrap_or(8),
            timeout: time("timeout", Duration::from_secs(60))?,
            retry_after_max: match text("retryAfterMax") {
                Some("0") => Duration::ZERO,
                _ => time("retryAfterMax", Duration::from_secs(360))?,
            },
        })
    }
}

/// Groups of consecutive pages, one for each plan partition, and the pace of each.
///
/// A budget that the pages exceed is shared out evenly; there are then no more groups than each can have a page of.
pub fn groups(pages: &[Page], pace: Pace, per_partition: Option<usize>, target: usize) -> (Vec<Vec<Page>>, Pace) {
    let users: u64 = pages.iter().map(|page| u64::from(page.results)).sum();
    let users_limit = pace.users.filter(|budget| users > *budget);
    let pace = Pace { users: users_limit, ..pace };
    let wished = match per_partition {
        Some(size) => pages.len().div_ceil(size),
        None => target.clamp(1, pages.len().max(1)),
    };
    let largest = pages.iter().map(|page| u64::from(page.results)).max().unwrap_or(1).max(1);
    let most = users_limit.map_or(usize::MAX, |budget| (budget / largest).max(1) as usize);
    let size = pages.len().div_ceil(wished.min(most).max(1)).max(1);
    let groups: Vec<Vec<Page>> = pages.chunks(size).map(<[Page]>::to_vec).collect();
    let pace = pace.shared(groups.len());
    (groups, pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<RandomUserOptions> {
        RandomUserOptions::parse(&Options::new(pairs.iter().copied()))
    }

    #[test]
    fn which_pages() {
        let check = |pairs: &[(&str, &str)], expect: &[(u32, u32)]| {
            let found: Vec<_> = parse(pairs).unwrap().pages.iter().map(|page| (page.page, page.results)).collect();
            assert_eq!(found, expect, "{pairs:?}");
        };
        check(&[("users", "2500")], &[(1, 1000), (2, 1000), (3, 500)]);
        check(&[("users", "10"), ("pageSize", "10")], &[(1, 10)]);
        check(&[("users", "25"), ("pageSize", "10"), ("pages", "3, 1")], &[(1, 10), (3, 5)]);
        check(&[("pageSize", "10"), ("pages", "2-3")], &[(2, 10), (3, 10)]);
    }

    #[test]
    fn what_the_service_would_replace_is_refused() {
        let check = |pairs: &[(&str, &str)], expect: &str| {
            let error = parse(pairs).unwrap_err();
            assert!(error.to_string().contains(expect), "{pairs:?}: {error}");
        };
        check(&[], "users");
        check(&[("users", "1"), ("pageSize", "5001")], "1 to 5000");
        check(&[("users", "10001"), ("pageSize", "1")], "10000 pages");
        check(&[("users", "10"), ("pages", "2")], "end before 2");
        check(&[("users", "10"), ("pages", "0")], "from 1");
        check(&[("users", "10"), ("nat", "XX")], "AU,BR");
        check(&[("users", "10"), ("usersPerWindow", "5")], "pageSize");
        check(&[("users", "10"), ("window", "5 parsecs")], "5m");
        check(&[("users", "10"), ("results", "5")], "RANDOMUSER_UNKNOWN_OPTION");
        check(&[("users", "10"), ("url", "ftp://me:canary@h/")], "no address");
        check(&[("users", "10"), ("seed", "s"), ("keepRaw", "perhaps")], "true or false");
    }

    #[test]
    fn durations() {
        let check = |text: &str, millis: Option<u64>| assert_eq!(duration(text), millis.map(Duration::from_millis));
        check("250ms", Some(250));
        check("5m", Some(300_000));
        check("30", Some(30_000));
        check("0s", None);
        check("s", None);
        check("1 day", None);
    }

    #[test]
    fn pages_are_grouped() {
        let pace = |users| Pace { users, window: WINDOW, requests_per_second: Some(8.0) };
        let check = |users: u64,
                     size: u64,
                     budget: Option<u64>,
                     per: Option<usize>,
                     target: usize,
                     expect: (usize, usize, Option<u64>)| {
            let (groups, shared) = groups(&pages(users, size, None), pace(budget), per, target);
            assert_eq!((groups.len(), groups[0].len(), shared.users), expect);
            assert_eq!(groups.iter().map(Vec::len).sum::<usize>() as u64, users.div_ceil(size));
            assert_eq!(shared.requests_per_second, Some(8.0 / groups.len() as f64));
        };
        check(10_000, 1_000, Some(20_000), None, 4, (4, 3, None));
        check(10_000, 1_000, None, Some(1), 4, (10, 1, None));
        check(2_000, 1_000, None, None, 8, (2, 1, None));
        // More than the budget: it is shared out.
        check(40_000, 1_000, Some(20_000), None, 4, (4, 10, Some(5_000)));
        check(40_000, 1_000, Some(2_000), Some(1), 4, (2, 20, Some(1_000)));
    }
}
