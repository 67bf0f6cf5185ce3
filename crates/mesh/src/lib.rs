//! Nodes and Peers to topology to the desired network of one node: pure
