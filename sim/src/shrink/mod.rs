//! Shrinking: from a run that went wrong to a scenario of a few steps that goes wrong in the same way.
//!
//! [`goal`] says what "the same way" is; [`story`] is a scenario as fixed steps with the time before each; [`reduce`]
//! tries smaller and smaller ones (delta debugging, Zeller and Hildebrandt 2002) as long as the goal is reached;
//! [`parts`] lists what can be taken from the cluster, its topics and its clients; [`mod@write`] puts the result into a file.
//!
//! Streams of chance are independent of each other, so what is left of a scenario draws what it drew before: that is
//! why taking something away keeps the rest of the story. Candidates are tried in a fixed order and the first that
//! reaches the goal is taken, however many are tried at once: two shrinks of one run give the same file, as long as
//! neither runs out of time.

pub mod goal;
pub mod parts;
pub mod reduce;
pub mod story;
pub mod write;

pub use goal::Goal;
pub use reduce::{Limits, Progress, Shrunk, shrink};
