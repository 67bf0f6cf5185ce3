#!/usr/bin/env bash
# The controller: many clusters at once, its memory, and what one change costs.
#
#   bench/services/run.sh [CLUSTERS [SERVICES]]      100 clusters with 100 exported services each unless said otherwise
#
# Everything is on loopback. How long a single Service takes is what ../shared/bench/mirror-latency.py measures.
set -euo pipefail
cd "$(dirname "$0")/../.."

for number in "$@"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
  }
done
cargo build --quiet --release --locked -p tombolo
cargo build --quiet --release --locked -p tombolo-controller --example clusters
target=${CARGO_TARGET_DIR:-target}
exec "$target/release/examples/clusters" "$target/release/tombolo" "$@"
