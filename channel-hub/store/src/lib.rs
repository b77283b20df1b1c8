//! SQLite behind one writer with self-clocking group commit.
