#!/usr/bin/env bash
# Route reflectors side by side under the same load, in one run; prints a Markdown table.
#
#   bench/bgp/run.sh [--peers bird,frr,gobgp,tombolo] [--rows million,hundred,five-hundred] [--repeat 3]
#   bench/bgp/run.sh --sessions N [--senders N] [--prefixes N] [--per-path N] [--withdraw]      a row of one's own
#
#   million        1 client announces 1,000,000 prefixes (10 a path), 1 receives; withdraws them; announces again; is lost
#   hundred        100 clients announce 100 prefixes each to all others; one is lost
#   five-hundred   500 clients announce 20 prefixes each to all others; one is lost
#
# Each figure is the median of the repetitions, each with a reflector started anew; what takes longer than half a minute
# is measured once. $TOMBOLO is our program, target/release/tombolo unless said otherwise. `make bench-bgp` installs the
# others. It takes root. Everything runs in network, mount and process namespaces that end with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

address=198.18.0.1
port=1790
clients=198.18.0.0/15
router_id=10.255.0.1
bgpd=/usr/lib/frr/bgpd

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}
fail() {
  echo "error: $*" >&2
  exit 1
}

peers=bird,frr,gobgp,tombolo
rows=million,hundred,five-hundred
repeat=3
custom=()
while (($#)); do
  case $1 in
    --peers | --rows | --repeat)
      [[ $# -ge 2 ]] || fail "$1 takes a value; see --help"
      declare "${1#--}=$2"
      shift 2
      ;;
    --sessions | --senders | --prefixes | --per-path | --patience)
      [[ $# -ge 2 ]] || fail "$1 takes a value; see --help"
      custom+=("$1" "$2")
      shift 2
      ;;
    --withdraw) custom+=("$1"); shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
((${#custom[@]} == 0)) || rows=own
[[ $repeat =~ ^[1-9][0-9]*$ ]] || fail "--repeat takes a number from 1 on, not $repeat"

IFS=, read -ra peers <<<"$peers"
IFS=, read -ra rows <<<"$rows"
tombolo=${TOMBOLO:-$PWD/target/release/tombolo}
for peer in "${peers[@]}"; do
  case $peer in
    bird) command -v bird >/dev/null || fail "bird is missing: apt-get install bird2" ;;
    frr) [[ -x $bgpd ]] || fail "$bgpd is missing: apt-get install frr" ;;
    gobgp) command -v gobgpd >/dev/null || fail "gobgpd is missing: apt-get install gobgpd" ;;
    tombolo) [[ -x $tombolo ]] || fail "$tombolo is missing: make build, or say where it is by \$TOMBOLO" ;;
    *) fail "there is no peer $peer: bird, frr, gobgp, tombolo" ;;
  esac
done
for row in "${rows[@]}"; do
  [[ $row =~ ^(million|hundred|five-hundred|own)$ ]] || fail "there is no row $row: million, hundred, five-hundred"
done

load=${CARGO_TARGET_DIR:-$PWD/bench/target}/release/bgp-load
if [[ -z ${TOMBOLO_BENCH_INSIDE:-} ]]; then
  cargo build --release --locked --quiet --manifest-path bench/Cargo.toml -p bgp-load
  [[ $(id -u) -eq 0 ]] || fail "network namespaces take root: sudo $0"
  arguments=(--repeat "$repeat" --peers "$(IFS=,; echo "${peers[*]}")")
  if ((${#custom[@]})); then arguments+=("${custom[@]}"); else arguments+=(--rows "$(IFS=,; echo "${rows[*]}")"); fi
  export TOMBOLO_BENCH_INSIDE=1 TOMBOLO="$tombolo"
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "${arguments[@]}"
fi

# From here on in namespaces of our own: these folders are gone when they are.
mount -t tmpfs tmpfs /mnt
# FRR leaves a folder there when it is killed.
mount -t tmpfs tmpfs /var/tmp
cd /mnt
ulimit -n "$(ulimit -Hn)"
ip link set lo up
ip address add "$address/32" dev lo
ip route add local "$clients" dev lo

configure() {
  case $1 in
    bird)
      cat <<EOF
router id $router_id;
log "/mnt/log" { fatal, error };
protocol device {}
protocol bgp reflector {
  local $address port $port as 64512;
  neighbor range $clients as 64512;
  dynamic name "client";
  multihop;
  rr client;
  ipv4 { import all; export all; next hop keep; };
}
EOF
      ;;
    frr)
      cat <<EOF
hostname frr
router bgp 64512
 bgp router-id $router_id
 neighbor kube peer-group
 neighbor kube remote-as 64512
 bgp listen limit 5000
 bgp listen range $clients peer-group kube
 address-family ipv4 unicast
  neighbor kube route-reflector-client
EOF
      ;;
    gobgp)
      cat <<EOF
[global.config]
  as = 64512
  router-id = "$router_id"
  port = $port
  local-address-list = ["$address"]
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "kube"
    peer-as = 64512
  [peer-groups.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "$router_id"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "$clients"
    peer-group = "kube"
EOF
      ;;
  esac
}

# Starts a reflector; sets $pid.
start() {
  configure "$1" >config
  case $1 in
    bird) exec bird -f -c config -s control -P pid ;;
    frr) exec "$bgpd" -f config -p "$port" -l "$address" --skip_runas --no_kernel --no_zebra -i pid --vty_socket /mnt -P 0 ;;
    gobgp) exec gobgpd -f config --api-hosts 127.0.0.1:50051 ;;
    tombolo)
      exec "$tombolo" route-reflector --listen "$address:$port" --asn 64512 --router-id "$router_id" --client-range "$clients"
      ;;
  esac >output 2>&1 &
  pid=$!
  local deadline=$((SECONDS + 15))
  until [[ -n $(ss -Hltn "sport = :$port") ]]; do
    if ((SECONDS > deadline)) || ! kill -0 "$pid" 2>/dev/null; then
      tail -n 5 output >&2
      fail "$1 does not listen on $address port $port"
    fi
    sleep 0.05
  done
  # GoBGP listens before it knows its clients.
  sleep 1
}

stop() {
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  rm -rf config control pid output log ./*.vty
}

row() {
  case $1 in
    million) echo --sessions 2 --senders 1 --prefixes 1000000 --per-path 10 --withdraw ;;
    hundred) echo --sessions 100 --prefixes 100 ;;
    five-hundred) echo --sessions 500 --prefixes 20 ;;
    own) echo "${custom[@]}" ;;
  esac
}

versions() {
  local peer
  for peer in "${peers[@]}"; do
    case $peer in
      bird) bird --version 2>&1 | head -n 1 ;;
      frr) "$bgpd" --version | head -n 1 ;;
      gobgp) gobgpd --version ;;
      tombolo) "$tombolo" --version ;;
    esac
  done | paste -sd ';' | sed 's/;/; /g'
}

for row in "${rows[@]}"; do
  for peer in "${peers[@]}"; do
    for ((i = 0; i < repeat; i++)); do
      started=$SECONDS
      start "$peer"
      read -ra arguments <<<"$(row "$row")"
      "$load" run --target "$address:$port" --pid "$pid" --peer "$peer" --results results "${arguments[@]}" </dev/null
      stop
      ((SECONDS - started < 30)) || break
    done
  done
done

echo
"$load" table results
echo
echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
  "$(awk '/^MemTotal/ {printf "%.1f GiB", $2 / 1048576}' /proc/meminfo), Linux $(uname -r); $(date -u +%F)," \
  "load average $(cut -d' ' -f1 /proc/loadavg); $(versions)"
! grep -q '"Err"' results || fail "some runs failed, as said above"
