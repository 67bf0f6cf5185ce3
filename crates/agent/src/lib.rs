//! The node's loop: watches the cluster, plans the node's network and applies it
