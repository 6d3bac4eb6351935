//! Nodes working together: what no part shows alone.

mod hostile;
mod lab;
mod life;
