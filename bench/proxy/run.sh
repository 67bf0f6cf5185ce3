#!/usr/bin/env bash
# The service proxy's table: how long it takes from nothing, how long a change, and what a connection notices of it.
#
#   bench/proxy/run.sh [SERVICES]      10000 unless said otherwise
#
# It takes root and nft. Everything runs in network namespaces that go with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

services=${1:-10000}
[[ $services =~ ^[1-9][0-9]*$ ]] || {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}
[[ $(id -u) -eq 0 ]] || {
  echo "error: it makes network namespaces, which takes root: sudo bench/proxy/run.sh" >&2
  exit 1
}
command -v nft >/dev/null || {
  echo "error: nft is missing: apt-get install nftables" >&2
  exit 1
}
cargo build --quiet --release --locked -p tombolo-proxy --example bench
exec "${CARGO_TARGET_DIR:-target}/release/examples/bench" "$services"
