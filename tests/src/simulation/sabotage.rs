//! Faults of the code itself, for seeing that what must hold can fail: each is a mistake that an implementation might
//! make, put into the simulated processes from outside.

use super::random::Random;

/// A mistake.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Some withdrawals are not taken.
    LoseWithdrawals,
    /// Some rows are written into the table of another LAN.
    WrongLan,
    /// Some changes are reported as done and are not.
    ForgetRows,
    /// Reflectors say "that is all" as soon as somebody listens.
    SpeakTooSoon,
    /// Rows take two seconds to be written.
    SlowRows,
    /// Ports are not removed from the kernel.
    KeepPorts,
    /// Files of attachments that are gone stay.
    KeepFiles,
    /// The core's timers are not served.
    StopTimers,
    /// A restarted worker takes over nothing.
    AdoptNothing,
    /// Workers do not see the mobility sequences of others.
    IgnoreSequences,
    /// Reflectors let everybody speak for everybody.
    BelieveAll,
}

impl Sabotage {
    /// All mistakes.
    pub const ALL: [Self; 11] = [
        Self::LoseWithdrawals,
        Self::WrongLan,
        Self::ForgetRows,
        Self::SpeakTooSoon,
        Self::SlowRows,
        Self::KeepPorts,
        Self::KeepFiles,
        Self::StopTimers,
        Self::AdoptNothing,
        Self::IgnoreSequences,
        Self::BelieveAll,
    ];

    /// Whether a mistake that is made now and then is made now.
    pub fn strikes(self, which: Self, random: &mut Random) -> bool {
        self == which && random.chance(10)
    }
}
