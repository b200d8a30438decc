//! How up to date a TCB is, in Intel's words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How up to date the hardware and firmware of a platform is (Intel's "TCB status").
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TcbStatus {
    /// Nothing is known to be wrong with it.
    UpToDate,
    /// The software has to protect itself against a known weakness.
    SWHardeningNeeded,
    /// The platform may have to be configured otherwise.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// It has known weaknesses, for which there are updates.
    OutOfDate,
    /// The same, and the platform may have to be configured otherwise, too.
    OutOfDateConfigurationNeeded,
    /// Its keys are not to be trusted.
    Revoked,
}

impl TcbStatus {
    /// Every one, from best to worst.
    pub const ALL: [Self; 7] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// Its name in what Intel signs, in settings and in selectors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// The status of what has parts with both of these: all that is wrong with either is wrong with
    /// it. What is out of date is worse than what its software makes up for.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        if self.is_revoked() || other.is_revoked() {
            return Self::Revoked;
        }
        let configuration = self.needs_configuration() || other.needs_configuration();
        let out_of_date = self.is_out_of_date() || other.is_out_of_date();
        let hardening = self.needs_hardening() || other.needs_hardening();
        match (out_of_date, configuration, hardening) {
            (true, true, _) => Self::OutOfDateConfigurationNeeded,
            (true, false, _) => Self::OutOfDate,
            (false, true, true) => Self::ConfigurationAndSWHardeningNeeded,
            (false, true, false) => Self::ConfigurationNeeded,
            (false, false, true) => Self::SWHardeningNeeded,
            (false, false, false) => Self::UpToDate,
        }
    }

    /// Whether there are updates that it lacks, or worse.
    #[must_use]
    pub const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded | Self::Revoked)
    }

    /// Whether the platform may have to be configured otherwise.
    #[must_use]
    pub const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSWHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
        )
    }

    const fn needs_hardening(self) -> bool {
        matches!(self, Self::SWHardeningNeeded | Self::ConfigurationAndSWHardeningNeeded)
    }

    const fn is_revoked(self) -> bool {
        matches!(self, Self::Revoked)
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TcbStatus::{
        ConfigurationAndSWHardeningNeeded as Both, ConfigurationNeeded as Configuration, OutOfDate,
        OutOfDateConfigurationNeeded as OutOfDateConfiguration, Revoked,
        SWHardeningNeeded as Hardening, UpToDate,
    };

    /// As Intel's quote verification library converges the statuses of a platform and of its quoting
    /// enclave or TDX module.
    #[test]
    fn the_parts_make_the_whole() {
        for (a, b, both) in [
            (UpToDate, UpToDate, UpToDate),
            (UpToDate, OutOfDate, OutOfDate),
            (Hardening, OutOfDate, OutOfDate),
            (Configuration, OutOfDate, OutOfDateConfiguration),
            (Both, OutOfDate, OutOfDateConfiguration),
            (OutOfDate, OutOfDate, OutOfDate),
            (OutOfDateConfiguration, UpToDate, OutOfDateConfiguration),
            (Hardening, Configuration, Both),
            (Both, UpToDate, Both),
        ] {
            assert_eq!((a.with(b), b.with(a)), (both, both));
        }
        for status in TcbStatus::ALL {
            assert_eq!(status.with(Revoked), Revoked);
            assert_eq!(status.with(status), status);
            assert_eq!(status.with(UpToDate), status);
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }
}
