//! The form of mutants: switches that bring a known bug back, so that a checker can be seen to find it.
//!
//! Nodes and clients have an enum of their own, each with a set that their configuration carries. Without the feature
//! `mutants` of their crate the set has no room for anything, and asking it costs nothing.

/// Declares an enum of mutants with their names, their stories (the documentation itself) and where they come from, and
/// the set of those that are switched on.
#[macro_export]
macro_rules! mutants {
    (
        $(#[$meta:meta])* pub enum $mutant:ident;
        $(#[$set_meta:meta])* pub struct $set:ident;
        $( $(#[doc = $story:literal])+ $variant:ident = $name:literal, $origin:literal; )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $mutant {
            $( $(#[doc = $story])+ $variant, )+
        }

        impl $mutant {
            /// All of them.
            pub const ALL: &'static [$mutant] = &[$($mutant::$variant),+];

            /// As a scenario names it.
            pub const fn name(self) -> &'static str {
                match self { $($mutant::$variant => $name),+ }
            }

            /// What it does wrong.
            pub fn story(self) -> &'static str {
                match self { $($mutant::$variant => concat!($($story),+)),+ }.trim()
            }

            /// The KIP or issue that tells of it, and the versions of Kafka that had it; or that it is a slip which
            /// anybody could make.
            pub const fn origin(self) -> &'static str {
                match self { $($mutant::$variant => $origin),+ }
            }
        }

        $(#[$set_meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $set {
            #[cfg(feature = "mutants")]
            bits: u128,
        }

        impl $set {
            /// The code as it should be.
            pub const NONE: $set = $set {
                #[cfg(feature = "mutants")]
                bits: 0,
            };

            /// Whether the mutant is on.
            #[cfg(feature = "mutants")]
            #[inline]
            pub const fn has(self, mutant: $mutant) -> bool {
                self.bits >> mutant as u32 & 1 == 1
            }

            /// Whether the mutant is on: never in this build.
            #[cfg(not(feature = "mutants"))]
            #[inline]
            pub const fn has(self, _mutant: $mutant) -> bool {
                false
            }

            /// With one more.
            #[cfg(feature = "mutants")]
            #[must_use]
            pub const fn with(self, mutant: $mutant) -> $set {
                $set { bits: self.bits | 1 << mutant as u32 }
            }
        }

        impl core::fmt::Debug for $set {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_set().entries($mutant::ALL.iter().filter(|m| self.has(**m))).finish()
            }
        }

        const _: () = assert!($mutant::ALL.len() <= 128, "a bit for each");
    };
}
