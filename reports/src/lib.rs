//! Highwater: reports.
