//! Highwater: codecs.
