//! Verifies everything again, from the first byte of the log.
