//! Releases as a repository lists them, and which of them a machine should run: pure decisions.

use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// What everybody runs, and what is tried before.
pub const STABLE: &str = "stable";
pub const CANDIDATE: &str = "candidate";

/// One file of a release, for one kind of machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The target's name in the repository.
    pub file: String,
    pub version: Version,
    pub channel: String,
    pub kind: Kind,
    pub architecture: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Percent of the machines that may take it.
    pub staged: u8,
    pub notes: Option<Notes>,
}

/// What changes, for whoever runs the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    pub fr: String,
    pub en: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Unpacked by the appliance itself.
    Archive,
    Deb,
    Rpm,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }
}

/// The beginning of a version that is not to be left: `1`, `0.4`, `0.4.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
}

impl Pin {
    pub fn holds(self, version: &Version) -> bool {
        self.major == version.major
            && self.minor.is_none_or(|minor| minor == version.minor)
            && self.patch.is_none_or(|patch| patch == version.patch)
    }
}

impl FromStr for Pin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| plain).ok_or(())
        };
        let mut parts = text.split('.').map(number);
        let major = parts.next().ok_or(())??;
        let (minor, patch) = (parts.next().transpose()?, parts.next().transpose()?);
        match parts.next() {
            None => Ok(Self { major, minor, patch }),
            Some(_) => Err(()),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = [self.minor, self.patch].into_iter().flatten();
        write!(f, "{}", self.major)?;
        rest.into_iter().try_for_each(|part| write!(f, ".{part}"))
    }
}

/// What a machine is, and what it should take.
#[derive(Debug, Clone)]
pub struct Wish {
    pub current: Version,
    pub channel: String,
    pub pin: Option<Pin>,
    pub kind: Kind,
    pub architecture: String,
    /// The machine's own random word: its place in each release's staging follows from it.
    pub seed: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest that fits, newer than what runs.
    Newest(Release),
    /// Nothing newer is listed for this machine.
    Current,
    /// This one is newer, and the pin holds it back.
    Pinned(Release),
    /// This one is newer, and not yet for this machine.
    Waiting(Release),
}

/// Never anything older than what runs, nor from a channel that was not asked for.
pub fn choose(releases: &[Release], wish: &Wish) -> Choice {
    let newest = |fits: &dyn Fn(&Release) -> bool| {
        let fitting = releases.iter().filter(|release| concerns(release, wish) && fits(release));
        fitting.max_by(|one, other| one.version.cmp_precedence(&other.version)).cloned()
    };
    let pinned = |release: &Release| wish.pin.is_none_or(|pin| pin.holds(&release.version));
    let staged = |release: &Release| place(&wish.seed, &release.version) < release.staged;
    if let Some(release) = newest(&|release| pinned(release) && staged(release)) {
        return Choice::Newest(release);
    }
    if let Some(release) = newest(&pinned) {
        return Choice::Waiting(release);
    }
    newest(&|_| true).map_or(Choice::Current, Choice::Pinned)
}

/// Newer than what runs, of this kind of machine, in a channel it listens to.
fn concerns(release: &Release, wish: &Wish) -> bool {
    let heard = release.channel == wish.channel || (wish.channel == CANDIDATE && release.channel == STABLE);
    let machine = release.kind == wish.kind && release.architecture == wish.architecture;
    heard && machine && release.version.cmp_precedence(&wish.current).is_gt()
}

/// Where a machine stands among all, 0 to 99: another place for each version, so that the same are not always first.
pub fn place(seed: &str, version: &Version) -> u8 {
    let digest = Sha256::digest(format!("{seed} {version}"));
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u8::try_from(number % 100).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn release(version: &str, channel: &str, staged: u8) -> Release {
        Release {
            file: format!("appliance-{version}"),
            version: version.parse().unwrap(),
            channel: channel.to_owned(),
            kind: Kind::Archive,
            architecture: "x86_64".to_owned(),
            bytes: 1,
            sha256: String::new(),
            staged,
            notes: None,
        }
    }

    fn wish(current: &str, channel: &str, pin: &str) -> Wish {
        Wish {
            current: current.parse().unwrap(),
            channel: channel.to_owned(),
            pin: pin.parse().ok(),
            kind: Kind::Archive,
            architecture: "x86_64".to_owned(),
            seed: "a".to_owned(),
        }
    }

    fn chosen(releases: &[Release], wish: &Wish) -> String {
        match choose(releases, wish) {
            Choice::Newest(release) => release.version.to_string(),
            Choice::Current => "current".to_owned(),
            Choice::Pinned(release) => format!("pinned {}", release.version),
            Choice::Waiting(release) => format!("waiting {}", release.version),
        }
    }

    #[test]
    fn the_newest_that_fits_is_chosen_or_why_none() {
        let all = [
            release("0.4.1", STABLE, 100),
            release("0.10.0", STABLE, 100),
            release("0.4.2", STABLE, 100),
            release("0.11.0-rc.1", CANDIDATE, 100),
        ];
        for (current, channel, pin, expected) in [
            ("0.4.0", STABLE, "", "0.10.0"),
            ("0.4.0", CANDIDATE, "", "0.11.0-rc.1"),
            ("0.11.0-rc.1", STABLE, "", "current"),
            ("0.4.0", STABLE, "0.4", "0.4.2"),
            ("0.4.2", STABLE, "0.4", "pinned 0.10.0"),
            ("0.4.0", STABLE, "0.4.1", "0.4.1"),
            ("0.10.0", STABLE, "0.4", "current"),
            ("0.4.0", "other", "", "current"),
        ] {
            assert_eq!(chosen(&all, &wish(current, channel, pin)), expected, "{current} {channel} {pin}");
        }
        let mut others = all.clone();
        others[1].kind = Kind::Deb;
        others[2].architecture = "aarch64".to_owned();
        assert_eq!(chosen(&others, &wish("0.4.0", STABLE, "")), "0.4.1");
        // The same version built again is no newer one.
        assert_eq!(chosen(&[release("0.4.0+2", STABLE, 100)], &wish("0.4.0+1", STABLE, "")), "current");
    }

    #[test]
    fn staging_reaches_every_machine_once_it_is_whole() {
        let at = |staged| chosen(&[release("2.0.0", STABLE, staged)], &wish("1.0.0", STABLE, ""));
        let own = place("a", &"2.0.0".parse().unwrap());
        assert_eq!((at(0).as_str(), at(own).as_str()), ("waiting 2.0.0", "waiting 2.0.0"));
        assert_eq!((at(own + 1).as_str(), at(100).as_str()), ("2.0.0", "2.0.0"));
        // While one waits, an older one that is for everybody is taken.
        let all = [release("1.1.0", STABLE, 100), release("2.0.0", STABLE, 0)];
        assert_eq!(chosen(&all, &wish("1.0.0", STABLE, "")), "1.1.0");
        // Machines are spread evenly.
        let version = "2.0.0".parse().unwrap();
        let early = (0..10_000).filter(|machine| place(&machine.to_string(), &version) < 10).count();
        assert!((800..1200).contains(&early), "{early}");
    }

    #[test]
    fn pins_are_beginnings_of_versions() {
        for text in ["1", "0.4", "0.4.2"] {
            assert_eq!(text.parse::<Pin>().map(|pin| pin.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "v1", "0.", "0.4.2.1", "^0.4", "+1", "0.x"] {
            assert_eq!(text.parse::<Pin>(), Err(()), "{text}");
        }
    }

    prop_compose! {
        fn any_version()(parts in (0..3_u64, 0..4_u64, 0..4_u64), rc in 0..4_u8) -> Version {
            let mut version = Version::new(parts.0, parts.1, parts.2);
            if rc == 0 {
                version.pre = semver::Prerelease::new("rc.1").unwrap();
            }
            version
        }
    }

    prop_compose! {
        fn any_release()(
            version in any_version(),
            candidate in any::<bool>(),
            deb in any::<bool>(),
            staged in 0..=100_u8,
        ) -> Release {
            let channel = if candidate { CANDIDATE } else { STABLE };
            let kind = if deb { Kind::Deb } else { Kind::Archive };
            Release { kind, version, ..release("0.0.0", channel, staged) }
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_may_be_taken_and_nothing_better_was_left(
            releases in prop::collection::vec(any_release(), 0..12),
            current in any_version(),
            candidate in any::<bool>(),
            pin in prop::option::of((0..3_u64, prop::option::of(0..4_u64))),
            seed in "[a-z]{4}",
        ) {
            let channel = if candidate { CANDIDATE } else { STABLE };
            let pin = pin.map(|(major, minor)| Pin { major, minor, patch: None });
            let wish = Wish { current, pin, seed, ..wish("0.0.0", channel, "") };
            let allowed = |release: &Release| {
                release.version > wish.current
                    && (candidate || release.channel == STABLE)
                    && release.kind == wish.kind
                    && wish.pin.is_none_or(|pin| pin.holds(&release.version))
                    && place(&wish.seed, &release.version) < release.staged
            };
            match choose(&releases, &wish) {
                Choice::Newest(release) => {
                    prop_assert!(allowed(&release));
                    prop_assert!(releases.iter().all(|other| !allowed(other) || other.version <= release.version));
                }
                Choice::Pinned(release) | Choice::Waiting(release) => {
                    prop_assert!(release.version > wish.current && !releases.iter().any(allowed));
                }
                Choice::Current => prop_assert!(!releases.iter().any(allowed)),
            }
        }

        #[test]
        fn a_place_is_one_of_a_hundred(seed in ".*", version in any_version()) {
            prop_assert!(place(&seed, &version) < 100);
        }
    }
}
