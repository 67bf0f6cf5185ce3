//! WireGuard keys, configuration files and devices: the kernel's and the embedded one
