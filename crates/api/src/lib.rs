//! The Kubernetes types and annotation names that Tombolo reads and writes
