#!/usr/bin/env bash
# Name servers side by side: 10,000 names of Services, one server thread on one core, dnsperf on the other.
#
#   bench/dns/run.sh [--peers knot,unbound,tombolo] [--names 10000] [--seconds 5] [--repeat 5] [--kind services|clusterset]
#
# The servers are started once, each with one thread, and take turns: in each round every one is asked for so many seconds
# while the others wait. Knot and Unbound have the names in a zone file and as local data; ours reads them from an API
# server as Services, or as ServiceImports with --kind clusterset. Before that every name is asked for once of each server,
# and the answers must be those expected.
#
# $TOMBOLO is our program, target/release/tombolo unless said otherwise. `make bench-dns` installs the others. It takes root
# and two cores. Everything runs in network, mount and process namespaces that end with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}
fail() {
  echo "error: $*" >&2
  exit 1
}

peers=knot,unbound,tombolo
names=10000
seconds=5
repeat=5
kind=services
while (($#)); do
  case $1 in
    --peers | --names | --seconds | --repeat | --kind)
      [[ $# -ge 2 ]] || fail "$1 takes a value; see --help"
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
for number in "$names" "$seconds" "$repeat"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || fail "$number is no number from 1 on"
done
[[ $names -le 60000 ]] || fail "--names: 60000 at most, one address each"
case $kind in
  services) domain=cluster.local ;;
  clusterset) domain=clusterset.local ;;
  *) fail "--kind is services or clusterset, not $kind" ;;
esac

IFS=, read -ra order <<<"$peers"
tombolo=${TOMBOLO:-$PWD/target/release/tombolo}
crds=$PWD/deploy/crds
command -v dnsperf >/dev/null || fail "dnsperf is missing: apt-get install dnsperf"
for peer in "${order[@]}"; do
  case $peer in
    knot) command -v knotd >/dev/null || fail "knotd is missing: apt-get install knot" ;;
    unbound) command -v unbound >/dev/null || fail "unbound is missing: apt-get install unbound" ;;
    tombolo) [[ -x $tombolo ]] || fail "$tombolo is missing: make build, or say where it is by \$TOMBOLO" ;;
    *) fail "there is no peer $peer: knot, unbound, tombolo" ;;
  esac
done

if [[ -z ${TOMBOLO_BENCH_INSIDE:-} ]]; then
  [[ $(id -u) -eq 0 ]] || fail "network namespaces take root: sudo $0"
  [[ $(nproc) -ge 2 ]] || fail "two cores are needed: one for the server, one for dnsperf"
  export TOMBOLO_BENCH_INSIDE=1 TOMBOLO="$tombolo"
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" --peers "$peers" --names "$names" \
    --seconds "$seconds" --repeat "$repeat" --kind "$kind"
fi

# From here on in namespaces of our own: this folder is gone when they are.
mount -t tmpfs tmpfs /mnt
cd /mnt
ip link set lo up

declare -A port=([knot]=5301 [unbound]=5302 [tombolo]=5303)

# name address, a line each
for ((i = 0; i < names; i++)); do
  echo "svc-$i.ns-$((i % 50)) 10.100.$((i / 250 + 1)).$((i % 250 + 1))"
done >list
awk -v domain="$domain" '{print $1 ".svc." domain " A"}' list >queries
awk -v domain="$domain" '{print $1 ".svc." domain ". " $2}' list | sort >expected

knot() {
  {
    echo "\$ORIGIN $domain."
    echo '$TTL 5'
    echo '@ SOA ns.dns hostmaster 1 7200 1800 86400 5'
    echo '@ NS ns.dns'
    echo 'ns.dns A 127.0.0.1'
    awk '{print $1 ".svc A " $2}' list
  } >zone
  mkdir -p knot
  cat >knot.conf <<END
server:
    rundir: /mnt/knot
    listen: 127.0.0.1@${port[knot]}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: /mnt/knot
zone:
  - domain: $domain
    file: /mnt/zone
    zonefile-sync: -1
END
  taskset -c 0 knotd -c knot.conf >knot.log 2>&1 &
}

unbound_() {
  {
    cat <<END
server:
  interface: 127.0.0.1@${port[unbound]}
  num-threads: 1
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "/mnt"
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  local-zone: "$domain." static
END
    awk -v domain="$domain" '{print "  local-data: \"" $1 ".svc." domain ". 5 A " $2 "\""}' list
    printf 'remote-control:\n  control-enable: no\n'
  } >unbound.conf
  taskset -c 0 unbound -d -c unbound.conf >unbound.log 2>&1 &
}

tombolo() {
  taskset -c 1 "$tombolo" apiserver --listen 127.0.0.1:6443 --service-cidr 10.100.0.0/16 --write-kubeconfig kubeconfig \
    >apiserver.log 2>&1 &
  apiserver=$!
  wait_for "the API server" test -s kubeconfig
  export KUBECONFIG=/mnt/kubeconfig
  kubectl apply -f "$crds/serviceimports.multicluster.x-k8s.io.yaml" >/dev/null
  for ((i = 0; i < 50; i++)); do
    printf '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns-%d"}}\n' "$i"
  done | kubectl create -f - >/dev/null
  # kubectl writes 50 objects a second and no more; behind its proxy others may be faster.
  taskset -c 1 kubectl proxy --port 8001 >proxy.log 2>&1 &
  local proxy=$!
  wait_for "kubectl's proxy" curl -sf http://127.0.0.1:8001/version
  if [[ $kind == services ]]; then
    awk '{split($1, n, "."); print n[2], "api/v1", "services", "v1", "Service", n[1], "{clusterIP:~" $2 "~,ports:[{port:80}]}"}' list
  else
    awk '{split($1, n, "."); print n[2], "apis/multicluster.x-k8s.io/v1alpha1", "serviceimports",
      "multicluster.x-k8s.io/v1alpha1", "ServiceImport", n[1], "{type:~ClusterSetIP~,ips:[~" $2 "~],ports:[{port:80}]}"}' list
  fi | sed -E 's/\b(clusterIP|ports|port|type|ips):/~\1~:/g' | awk '{
    body = "{~apiVersion~:~" $4 "~,~kind~:~" $5 "~,~metadata~:{~name~:~" $6 "~},~spec~:" $7 "}"
    gsub("~", "\\\"", body)
    printf "url = \"http://127.0.0.1:8001/%s/namespaces/%s/%s\"\n", $2, $1, $3
    printf "header = \"Content-Type: application/json\"\ndata = \"%s\"\noutput = /dev/null\nsilent\nshow-error\nfail\nnext\n", body
  }' | sed '$d' >requests
  curl -K requests || fail "the API server does not take the objects"
  kill "$proxy"
  taskset -c 0 "$tombolo" dns --kubeconfig kubeconfig --listen "127.0.0.1:${port[tombolo]}" --forward none \
    --ready-listen 127.0.0.1:8181 >tombolo.log 2>&1 &
}

# Tries a command for 30 s.
wait_for() {
  local what=$1 deadline=$((SECONDS + 30))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > deadline)); then
      tail -n 5 ./*.log >&2
      fail "$what is not there after 30 s"
    fi
    sleep 0.1
  done
}

answers() {
  [[ -n $(dig +short +time=1 +tries=1 @127.0.0.1 -p "$1" "$(awk 'END {print $1}' queries)" A) ]]
}

for peer in "${order[@]}"; do
  case $peer in
    unbound) unbound_ ;;
    *) "$peer" ;;
  esac
  wait_for "$peer" answers "${port[$peer]}"
  # Every name once: the answers are those expected.
  dig +noall +answer +time=5 @127.0.0.1 -p "${port[$peer]}" -f queries | awk '$4 == "A" {print $1, $5}' | sort >seen
  cmp -s expected seen || fail "$peer does not answer as expected: $(diff expected seen | head -n 3)"
done
# Nothing of it is needed any more; it must not take time from the others.
[[ -z ${apiserver:-} ]] || kill -STOP "$apiserver"

: >results
for ((round = 1; round <= repeat; round++)); do
  for peer in "${order[@]}"; do
    taskset -c 1 dnsperf -s 127.0.0.1 -p "${port[$peer]}" -d queries -l "$seconds" >report 2>&1 || fail "$(tail -n 3 report)"
    rate=$(awk '/Queries per second/ {printf "%d", $4}' report)
    lost=$(awk '/Queries lost/ {print $3}' report)
    bad=$(awk -F 'codes: *' '/Response codes/ {print $2}' report | grep -v '^NOERROR [0-9]* (100.00%)$' || true)
    [[ -z $bad ]] || fail "$peer answered otherwise than before: $bad"
    echo "$peer $rate $lost" >>results
    echo "  round $round: $peer $rate/s, $lost lost" >&2
  done
done

echo
best=0
printf '%-10s %12s %12s %12s %8s\n' server "median /s" "least /s" "most /s" lost
for peer in "${order[@]}"; do
  sorted=$(awk -v peer="$peer" '$1 == peer {print $2}' results | sort -n)
  median=$(sed -n "$(((repeat + 1) / 2))p" <<<"$sorted")
  lost=$(awk -v peer="$peer" '$1 == peer {n += $3} END {print n}' results)
  printf '%-10s %12d %12d %12d %8d\n' "$peer" "$median" "$(head -n 1 <<<"$sorted")" "$(tail -n 1 <<<"$sorted")" "$lost"
  if [[ $peer == tombolo ]]; then
    ours=$median
  elif ((median > best)); then
    best=$median
    best_name=$peer
  fi
done
if [[ -n ${ours:-} && $best -gt 0 ]]; then
  echo
  echo "tombolo to the better of the others ($best_name): $(awk -v a="$ours" -v b="$best" 'BEGIN {printf "%.2f", a / b}')"
fi
echo
echo "$names names, $kind, $seconds s a turn, $repeat rounds; $(nproc) cores," \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r); $(date -u +%F)," \
  "load average $(cut -d' ' -f1 /proc/loadavg)"
echo "$(knotd --version 2>/dev/null || true); $(unbound -V 2>/dev/null | head -n 1 || true);" \
  "$("$tombolo" --version 2>/dev/null || true)"
