#!/usr/bin/env bash
# Installs from Debian what is missing: `deps.sh build`, `deps.sh run`, `deps.sh bench`; `deps.sh kubectl DIR` unpacks Debian's own
# kubectl (1.20) into DIR, beside whatever kubectl this machine has.
set -euo pipefail

# Where apt puts administrators' programs, which a user's PATH may lack.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# program (or file) and the package that has it
build=(cc:gcc ld:binutils make:make)
routing=(/usr/sbin/bird:bird2 /usr/lib/frr/bgpd:frr gobgpd:gobgpd)
run=(
  ip:iproute2 nft:nftables ping:iputils-ping wg:wireguard-tools wireguard-go:wireguard-go tcpdump:tcpdump
  conntrack:conntrack dig:bind9-dnsutils curl:curl kubectl:kubernetes-client ps:procps
  /usr/lib/cni/bridge:containernetworking-plugins "${routing[@]}" exabgp:exabgp bgpdump:bgpdump
)
bench=(
  ip:iproute2 "${routing[@]}" knotd:knot unbound:unbound dnsperf:dnsperf dig:bind9-dnsutils curl:curl
  kubectl:kubernetes-client iperf3:iperf3 ping:iputils-ping wg:wireguard-tools wireguard-go:wireguard-go
)
# Services that Debian would start with the package; they are for labs and tests to run, in their own namespaces.
declare -A services=([bird2]=bird [frr]=frr [gobgpd]=gobgpd [exabgp]=exabgp [knot]=knot [unbound]=unbound)

missing() {
  local entry program
  for entry in "$@"; do
    program=${entry%%:*}
    if [[ $program == /* ]]; then
      [[ -e $program ]] || echo "${entry##*:}"
    else
      command -v "$program" >/dev/null || echo "${entry##*:}"
    fi
  done
}

update() {
  # Once a day is enough; without any list there is nothing to install from.
  if [[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 -print -quit 2>/dev/null) ]]; then
    echo "apt-get update"
    apt-get update -qq
  fi
}

install() {
  local packages=("$@")
  [[ ${#packages[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]]; then
    echo "error: these packages are missing, and installing them takes root: ${packages[*]}" >&2
    echo "  run: sudo apt-get install -y ${packages[*]}" >&2
    exit 1
  fi
  update
  echo "apt-get install -y ${packages[*]}"
  # The policy is asked before a package starts its service (invoke-rc.d(8)). One that is there already stays.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  local package
  for package in "${packages[@]}"; do
    [[ -z ${services[$package]:-} ]] || ! command -v systemctl >/dev/null ||
      systemctl --quiet disable --now "${services[$package]}" 2>/dev/null || true
  done
}

case ${1:-} in
  build)
    mapfile -t packages < <(missing "${build[@]}" | sort -u)
    install "${packages[@]}"
    command -v cargo >/dev/null || {
      echo "error: cargo is missing; install Rust 1.95 or newer with rustup" >&2
      exit 1
    }
    ;;
  run)
    mapfile -t packages < <(missing "${run[@]}" | sort -u)
    install "${packages[@]}"
    ;;
  bench)
    mapfile -t packages < <(missing "${bench[@]}" | sort -u)
    install "${packages[@]}"
    ;;
  kubectl)
    directory=$2
    [[ -x $directory/usr/bin/kubectl ]] && exit 0
    update
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    (cd "$work" && apt-get download -qq kubernetes-client >/dev/null && dpkg-deb -x kubernetes-client_*.deb "$directory")
    ;;
  *)
    echo "usage: $0 build | run | bench | kubectl DIR" >&2
    exit 2
    ;;
esac
