//! Joins a client to a container of a pod.
