//! What the end-to-end tests share: a lab of their own, commands, and waiting with a deadline.
