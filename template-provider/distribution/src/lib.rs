//! Template Distribution Protocol, both ends, without IO.
