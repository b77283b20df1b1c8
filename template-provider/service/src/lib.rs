//! What every program needs around its core: configuration, logs, signals, drain, status page, metrics.
