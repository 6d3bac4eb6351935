//! The quorum as a whole: clusters in one process, with faults from seeds, and the story of single mechanisms.

mod cluster;
mod golden;
mod seeds;
mod stories;
mod voters;
mod wire_form;
