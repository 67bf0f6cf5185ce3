//! Annotations of Tombolo's own, on Nodes where Kilo's have no room, and on the objects that it mirrors.

/// All internal addresses of a node, as CIDRs separated by commas: `10.0.0.1/24,fd00::1/64`.
///
/// [`INTERNAL_IP`](crate::kilo::INTERNAL_IP) holds one address, which is not enough for dual-stack.
pub const INTERNAL_IPS: &str = "tombolo.io/internal-ips";

/// All WireGuard addresses of a leader, as CIDRs separated by commas: `10.4.0.1/16,fd04::1/64`.
///
/// [`WIREGUARD_IP`](crate::kilo::WIREGUARD_IP) holds one address, which is not enough for dual-stack.
pub const WIREGUARD_IPS: &str = "tombolo.io/wireguard-ips";

/// Names of the nodes of the same location that the annotated node cannot reach, separated by commas.
///
/// A node that all others of its location list here does not lead it.
pub const UNREACHABLE: &str = "tombolo.io/unreachable";

/// On a leader: networks of Peers that do not answer it, as CIDRs separated by commas.
///
/// The nodes of its location leave endpoints in them out of Services as long as there are others.
pub const SILENT_NETWORKS: &str = "tombolo.io/silent-networks";

/// The field manager of all that we write, and the value of the labels [`MANAGED_BY_LABEL`] and
/// [`SLICE_MANAGED_BY_LABEL`] on it.
pub const MANAGER: &str = "tombolo";

/// The label that says who keeps an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The label that says who keeps an EndpointSlice.
pub const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// On a mirrored Service, its EndpointSlices and its Endpoints: the name of the source that it is from.
pub const MIRRORED_FROM: &str = "tombolo.io/mirrored-from";

/// On a mirrored Service: since when its source can't be reached, in Unix seconds.
pub const STALE_SINCE: &str = "tombolo.io/stale-since";

/// On a mirrored Service that its source has no more: since when it is held back, in Unix seconds.
pub const HELD_SINCE: &str = "tombolo.io/held-since";

/// On a Namespace that was made for mirrors, and goes with the last of them.
pub const MADE_FOR_MIRRORS: &str = "tombolo.io/made-for-mirrors";

/// Set by a person on the ConfigMap `tombolo-sources`: the sources, separated by commas, whose missing Services are
/// meant to be gone, so that they are not held back.
pub const CONFIRM_DELETION: &str = "tombolo.io/confirm-deletion";

/// Set by a person on a Service: `pods` or `cluster-ip`, what its mirrors in other clusters have as endpoints.
pub const MIRROR_ENDPOINTS: &str = "tombolo.io/mirror-endpoints";

/// Set by a person on a ServiceImport or on its derived Service: which cluster's endpoints the service proxy uses.
///
/// `any` (the default): those of all clusters. `local`: those of this cluster as long as one of them can be used, else
/// the others.
pub const CLUSTER_PREFERENCE: &str = "tombolo.io/cluster-preference";

/// Set by a person on a ServiceImport or on its derived Service: the shares of the connections that the service proxy
/// gives to clusters, by their ids: `west=3,east=1`.
///
/// A number from 0 to 1000. 0: only where nothing else can be used. A cluster that is not named has 1.
pub const CLUSTER_WEIGHTS: &str = "tombolo.io/cluster-weights";
