//! All reasons that are sent or counted, each with its number on the wire and a sentence; and how such a table is made.
//!
//! Invariant: a number never changes its meaning, and an unknown number is refused. docs/PROTOCOL.md has the same three
//! tables; a test compares them.

/// Makes an enum from a table: variant, number in bytes, text. `$text` names the method that returns the text.
macro_rules! coded {
    ($(#[$doc:meta])* $name:ident, $text:ident {
        $($(#[$about:meta])* $variant:ident = $code:literal: $sentence:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $name {
            $($(#[$about])* #[doc = ""] #[doc = concat!("`", $sentence, "`")] $variant = $code,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The number in signed bytes and on the wire.
            pub fn code(self) -> u16 {
                self as u16
            }

            /// The one with this number.
            pub fn from_code(code: u16) -> Option<$name> {
                $name::ALL.iter().copied().find(|one| one.code() == code)
            }

            /// Its text, as in reports.
            pub fn $text(self) -> &'static str {
                match self { $($name::$variant => $sentence,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.$text())
            }
        }

        impl core::str::FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<$name, ()> {
                $name::ALL.iter().copied().find(|one| one.$text() == text).ok_or(())
            }
        }
    };
}

pub(crate) use coded;

coded! {
    /// Why a frame or a peer was refused. Refusing is never fatal to the process that refuses.
    Reject, sentence {
        Magic = 1: "not this protocol",
        Version = 2: "another protocol version",
        Kind = 3: "a frame that has no place here",
        Reserved = 4: "reserved bytes are not zero",
        HelloLate = 5: "no hello or preamble in time",
        FrameLate = 6: "a frame was begun and not finished in time",
        HalfFrame = 7: "the connection ended inside a frame",
        Crowded = 8: "displaced by newer connections before it proved anything",
        TermsDiffer = 9: "other terms than those of this roster",
        Displaced = 10: "displaced by another connection of the same key",
        SlotDiffers = 11: "the slot is not the one of this key",
        KeyWeak = 12: "the public key is no point, one of small order, or a second spelling",
        Silent = 13: "nothing was heard for 15 seconds",
        HelloSignature = 14: "the hello's signature does not check under this nonce and this aggregator's key",
        StartUnknown = 15: "no round of the schedule starts then",
        KeyUnknown = 16: "the public key is in no slot of the roster",
        RoundOver = 17: "the round is over",
        SampleOld = 18: "a price older than the terms allow",
        SampleOrder = 19: "a sample numbered twice, out of order or beyond the last",
        SampleBroken = 20: "a sample record that contradicts itself",
        SampleLate = 21: "a sample asked for too late to count",
        Average = 22: "the average is neither a price nor an abstention",
        Timestamp = 23: "the timestamp lies outside the round",
        SamplesMissing = 24: "an observation without all of its samples",
        Signature = 25: "the observation's signature does not check over this round, its terms and the samples received",
        TooFewSamples = 26: "signed, but made of too few valid samples",
        AverageDiffers = 27: "signed, but the average is not that of its samples",
        TimestampDiffers = 28: "signed, but the timestamp is not that of its newest valid sample",
        Duplicate = 29: "the same observation again",
        Equivocation = 30: "two different signed observations for one round",
        TooEarly = 31: "more than a second before its instant",
    }
}

coded! {
    /// Why a sample has no price.
    Miss, sentence {
        NotConnected = 1: "no connection to the exchange",
        NoReply = 2: "no reply in time",
        Disconnected = 3: "the connection ended before the reply",
        TooLarge = 4: "a message larger than 64 KiB",
        NotJson = 5: "the reply is not JSON",
        Shape = 6: "the reply lacks a field or has one of another type",
        WrongId = 7: "the reply has another id",
        WrongSymbol = 8: "the reply has another symbol",
        NotDecimal = 9: "the price is no decimal number",
        OutOfBounds = 10: "the price is zero, negative or absurd",
        Refused = 11: "the exchange answered with an error",
        RateLimited = 12: "the exchange limits or bans this address",
        Overdue = 13: "the instant had passed",
        ClockMoved = 14: "the system clock was stepped",
        Stale = 15: "the newest price is too old, or none has come",
        Crossed = 16: "the best bid is above the best ask",
        TooWide = 17: "the best bid and the best ask are more than 2 % apart",
    }
}

coded! {
    /// Why a collector abstains. It is signed instead of an average.
    Abstention, sentence {
        TooFewSamples = 1: "fewer than 80 % of the samples are valid",
        ClockMoved = 2: "the system clock was stepped within the round",
        Stale = 3: "the exchange lives, and says no price that is young enough",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    #[test]
    fn known_numbers_map_to_their_reason_and_unknown_ones_to_none() {
        for reason in Reject::ALL {
            assert_eq!(Reject::from_code(reason.code()), Some(*reason));
        }
        for reason in Miss::ALL {
            assert_eq!(Miss::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reject::from_code(0), None);
        assert_eq!(Miss::from_code(0), None, "0 means that there is a price");
        assert_eq!(Abstention::from_code(4), None);
    }
}
