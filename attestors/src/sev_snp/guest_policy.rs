//! What a guest may be subjected to, which its owner chose at launch, and how its platform is set up
//! (publication 56860, "Guest Policy" and PLATFORM_INFO).

use serde::Deserialize;

use super::report::Report;

/// The POLICY of a guest. The firmware enforces it for as long as the guest lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GuestPolicy(pub(super) u64);

/// The bits that are known, with the lowest sixteen, which say which firmware is the oldest that may run
/// the guest.
const KNOWN: u64 = 0x03ff_ffff;
/// "Reserved. Must be one."
const ONE: u64 = 1 << 17;

impl GuestPolicy {
    const SMT: u64 = 1 << 16;
    const MIGRATION: u64 = 1 << 18;
    const DEBUG: u64 = 1 << 19;
    const SINGLE_SOCKET: u64 = 1 << 20;
    const CXL: u64 = 1 << 21;
    const AES_256_XTS: u64 = 1 << 22;
    const RAPL_DISABLED: u64 = 1 << 23;
    const CIPHERTEXT_HIDING: u64 = 1 << 24;
    const PAGE_SWAP_DISABLED: u64 = 1 << 25;

    const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// Whether it says nothing that is unknown here, and so might permit anything.
    pub(super) const fn is_known(self) -> bool {
        self.0 & !KNOWN == 0 && self.has(ONE)
    }

    /// Whether the host may read the guest's memory.
    pub(super) const fn allows_debugging(self) -> bool {
        self.has(Self::DEBUG)
    }

    /// Whether a migration agent may take the guest elsewhere.
    pub(super) const fn allows_migration(self) -> bool {
        self.has(Self::MIGRATION)
    }

    /// The bits by name, for entries and people.
    pub(super) fn settings(self) -> [(&'static str, bool); 9] {
        [
            ("smt", self.has(Self::SMT)),
            ("migration", self.allows_migration()),
            ("debug", self.allows_debugging()),
            ("single_socket", self.has(Self::SINGLE_SOCKET)),
            ("cxl", self.has(Self::CXL)),
            ("aes_256_xts", self.has(Self::AES_256_XTS)),
            ("rapl_disabled", self.has(Self::RAPL_DISABLED)),
            ("ciphertext_hiding", self.has(Self::CIPHERTEXT_HIDING)),
            ("page_swap_disabled", self.has(Self::PAGE_SWAP_DISABLED)),
        ]
    }
}

/// The PLATFORM_INFO of a report. Bits are added to it without notice, and those that are unknown say
/// nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PlatformInfo(pub(super) u64);

impl PlatformInfo {
    const ECC: u64 = 1 << 2;
    const ALIAS_CHECK: u64 = 1 << 5;

    const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// The bits by name, for people.
    pub(super) fn settings(self) -> [(&'static str, bool); 7] {
        [
            ("smt", self.has(1 << 0)),
            ("tsme", self.has(1 << 1)),
            ("ecc", self.has(Self::ECC)),
            ("rapl_disabled", self.has(1 << 3)),
            ("ciphertext_hiding", self.has(1 << 4)),
            ("alias_check", self.has(Self::ALIAS_CHECK)),
            ("tio", self.has(1 << 7)),
        ]
    }
}

/// What an operator may require of a guest's policy or of its platform, beyond what always has to be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// The host must not use simultaneous multithreading.
    NoSmt,
    /// The guest must not run on several sockets.
    SingleSocket,
    /// No memory or device must be attached by CXL.
    NoCxl,
    /// Memory must be encrypted by AES-256-XTS.
    #[serde(rename = "aes-256-xts")]
    Aes256Xts,
    /// The host must not read how much power is used (PLATYPUS).
    RaplDisabled,
    /// The host must not see ciphertext (CIPHERLEAKS).
    CiphertextHiding,
    /// The host must not move or swap pages.
    PageSwapDisabled,
    /// The platform must have error-correcting memory.
    Ecc,
    /// The platform must have checked that no memory is aliased (BadRAM). Reports of version 2 can't
    /// say so.
    AliasCheck,
}

impl Requirement {
    /// Its name in the settings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoSmt => "no-smt",
            Self::SingleSocket => "single-socket",
            Self::NoCxl => "no-cxl",
            Self::Aes256Xts => "aes-256-xts",
            Self::RaplDisabled => "rapl-disabled",
            Self::CiphertextHiding => "ciphertext-hiding",
            Self::PageSwapDisabled => "page-swap-disabled",
            Self::Ecc => "ecc",
            Self::AliasCheck => "alias-check",
        }
    }

    pub(super) const fn is_met(self, report: &Report<'_>) -> bool {
        let (policy, platform) = (report.policy, report.platform);
        match self {
            Self::NoSmt => !policy.has(GuestPolicy::SMT),
            Self::SingleSocket => policy.has(GuestPolicy::SINGLE_SOCKET),
            Self::NoCxl => !policy.has(GuestPolicy::CXL),
            Self::Aes256Xts => policy.has(GuestPolicy::AES_256_XTS),
            Self::RaplDisabled => policy.has(GuestPolicy::RAPL_DISABLED),
            Self::CiphertextHiding => policy.has(GuestPolicy::CIPHERTEXT_HIDING),
            Self::PageSwapDisabled => policy.has(GuestPolicy::PAGE_SWAP_DISABLED),
            Self::Ecc => platform.has(PlatformInfo::ECC),
            Self::AliasCheck => platform.has(PlatformInfo::ALIAS_CHECK),
        }
    }
}
