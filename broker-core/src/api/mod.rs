//! Dispatch of requests to their handlers, and the handlers that belong to no mechanism of their own.

pub mod forward;
