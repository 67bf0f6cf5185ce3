//! What follows from what is stored.
