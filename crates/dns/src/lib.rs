//! Zones out of Services, and the server that answers for them
