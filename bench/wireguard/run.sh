#!/usr/bin/env bash
# WireGuard without the kernel's, side by side in one run: rates, round trip, CPU time and memory; prints a Markdown table.
#
#   bench/wireguard/run.sh [--programs veth,gotatun,wireguard-go,tombolo] [--seconds 4] [--repeat 3]
#   bench/wireguard/run.sh --peer NAME=COMMAND     one more program; COMMAND is called with the interface's name appended
#   bench/wireguard/run.sh --peers N               also: one device with N peers (8 to 60000), 8 of them alive; its memory on the
#                                                  way there, at 1, 8, 100, 1000
#
#   veth           the cable alone, without a tunnel
#   gotatun        gotatun-cli on the PATH or from --gotatun PATH; `cargo install gotatun-cli` builds it. Left out where there is none
#   wireguard-go   Debian's
#   tombolo        ours, $TOMBOLO or target/release/tombolo
#
# Two network namespaces on one cable have a device each, configured by wg(8), MTU 1420. iperf3 sends for so many seconds
# with one TCP stream, with four, with one the other way, and UDP datagrams of 1300 bytes as fast as it can, of which those
# received count; ping asks 500 times a second. CPU time is that of the first TCP stream: of the whole machine (so that
# whatever else runs on it counts, too) and of the two devices. Programs take turns, started anew in each round.
#
# `make bench-wireguard` installs what it takes. It takes root. Everything runs in namespaces that end with it.
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

programs=
more=()
gotatun=$(command -v gotatun || true)
seconds=4
repeat=3
peers=0
arguments=("$@")
while (($#)); do
  case $1 in
    --programs | --gotatun | --seconds | --repeat | --peers | --peer)
      [[ $# -ge 2 ]] || fail "$1 takes a value; see --help"
      if [[ $1 == --peer ]]; then more+=("$2"); else declare "${1#--}=$2"; fi
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[[ $seconds =~ ^[1-9][0-9]*$ && $repeat =~ ^[1-9][0-9]*$ ]] || fail "--seconds and --repeat take a number from 1 on"
[[ $peers =~ ^[0-9]+$ && ($peers -eq 0 || ($peers -ge 8 && $peers -le 60000)) ]] || fail "--peers takes 8 to 60000"

tombolo=${TOMBOLO:-$PWD/target/release/tombolo}
if [[ -z $programs ]]; then
  programs=veth,wireguard-go,tombolo
  if [[ -n $gotatun ]]; then
    programs=veth,gotatun,wireguard-go,tombolo
  else
    echo "gotatun is left out: it is not on the PATH (cargo install gotatun-cli, or --gotatun PATH)" >&2
  fi
fi
IFS=, read -ra order <<<"$programs"
declare -A command=([veth]="")
for program in "${order[@]}"; do
  case $program in
    veth) ;;
    gotatun)
      [[ -x $gotatun ]] || fail "gotatun is missing: cargo install gotatun-cli, or say where it is by --gotatun PATH"
      command[gotatun]="$gotatun --foreground --disable-drop-privileges"
      ;;
    wireguard-go)
      command -v wireguard-go >/dev/null || fail "wireguard-go is missing: apt-get install wireguard-go"
      command[wireguard-go]="env WG_PROCESS_FOREGROUND=1 wireguard-go -f"
      ;;
    tombolo)
      [[ -x $tombolo ]] || fail "$tombolo is missing: make build, or say where it is by \$TOMBOLO"
      command[tombolo]="$tombolo wireguard"
      ;;
    *) fail "there is no program $program: veth, gotatun, wireguard-go, tombolo; others by --peer NAME=COMMAND" ;;
  esac
done
for entry in "${more[@]}"; do
  [[ $entry == ?*=?* ]] || fail "--peer takes NAME=COMMAND, not $entry"
  order+=("${entry%%=*}")
  command[${entry%%=*}]=${entry#*=}
done
for tool in ip:iproute2 iperf3:iperf3 ping:iputils-ping wg:wireguard-tools ss:iproute2; do
  command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done

if [[ -z ${TOMBOLO_BENCH_INSIDE:-} ]]; then
  [[ $(id -u) -eq 0 ]] || fail "network namespaces take root: sudo $0"
  export TOMBOLO_BENCH_INSIDE=1 TOMBOLO="$tombolo"
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "${arguments[@]}"
fi

# From here on in namespaces of our own: these folders are gone when they are, and so are all processes and interfaces.
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /run
mkdir -p /run/wireguard
umask 077
work=/mnt

# Tries a command for 15 s.
wait_for() {
  local what=$1 deadline=$((SECONDS + 15))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > deadline)); then
      tail -n 5 "$work"/*.log >&2 || true
      fail "$what: nothing after 15 s"
    fi
    sleep 0.05
  done
}

# device NAMESPACE COMMAND: starts a device without configuration; its processes are in NAMESPACE.pids.
device() {
  local namespace=$1 words
  shift
  read -ra words <<<"$*"
  ip netns exec "$namespace" "${words[@]}" "wg-$namespace" >"$work/$namespace.log" 2>&1 </dev/null &
  # `wg` deletes a socket that is bound and does not listen yet; 00010000 is one that listens.
  wait_for "$*" ip netns exec "$namespace" grep -q " 00010000 .*wg-$namespace" /proc/net/unix
  wait_for "$*" wg show "wg-$namespace"
  ip netns pids "$namespace" >"$work/$namespace.pids"
}

# up COMMAND CABLES: a namespace `a`, and as many others on cables of their own, each with its device; without a command
# without devices. What is to be reached is in $target (the first) and is 10.9.0.2, 10.9.0.3, ...
up() {
  local command=$1 cables=$2 i b key
  ip netns add a
  ip -n a link set lo up
  target=192.0.2.2
  if [[ -n $command ]]; then
    device a "$command"
    wg genkey >"$work/a.key"
    printf '[Interface]\nPrivateKey = %s\nListenPort = 51820\n' "$(<"$work/a.key")" >"$work/a.conf"
  fi
  for ((i = 1; i <= cables; i++)); do
    b=b$i
    ip netns add "$b"
    ip link add "v$i" netns a type veth peer name v netns "$b"
    ip -n a addr add "192.0.2.$((4 * i - 3))/30" dev "v$i"
    ip -n "$b" addr add "192.0.2.$((4 * i - 2))/30" dev v
    ip -n a link set "v$i" up
    ip -n "$b" link set v up
    ip -n "$b" link set lo up
    [[ -n $command ]] || continue
    device "$b" "$command"
    key=$(wg genkey)
    printf '[Peer]\nPublicKey = %s\nEndpoint = 192.0.2.%d:51820\nAllowedIPs = 10.9.0.%d/32\n' \
      "$(wg pubkey <<<"$key")" $((4 * i - 2)) $((i + 1)) >>"$work/a.conf"
    printf '[Interface]\nPrivateKey = %s\nListenPort = 51820\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.1/32\n' \
      "$key" "$(wg pubkey <"$work/a.key")" | wg setconf "wg-$b" /dev/stdin
    ip -n "$b" addr add "10.9.0.$((i + 1))/16" dev "wg-$b"
    ip -n "$b" link set "wg-$b" mtu 1420 up
  done
  if [[ -n $command ]]; then
    wg setconf wg-a "$work/a.conf"
    ip -n a addr add 10.9.0.1/16 dev wg-a
    ip -n a link set wg-a mtu 1420 up
    target=10.9.0.2
  fi
  for ((i = 1; i <= cables; i++)); do
    ip netns exec "b$i" iperf3 -s >"$work/iperf3-b$i.log" 2>&1 &
    wait_for "iperf3's server" listens "b$i"
    [[ $cables -eq 1 ]] || target=10.9.0.$((i + 1))
    ip netns exec a ping -c 2 -i 0.1 -W 2 "$target" >/dev/null || fail "${command:-veth}: $target does not answer a ping"
  done
}

listens() {
  [[ -n $(ip netns exec "$1" ss -Hltn "sport = :5201") ]]
}

down() {
  local namespace pids
  for namespace in $(ip netns list | cut -d' ' -f1); do
    pids=$(ip netns pids "$namespace")
    [[ -z $pids ]] || kill $pids 2>/dev/null || true
  done
  wait
  for namespace in $(ip netns list | cut -d' ' -f1); do
    # Of those that are nobody's children here.
    wait_for "the end of all processes" eval "[[ -z \$(ip netns pids $namespace) ]]"
    ip netns del "$namespace"
  done
  rm -rf "${work:?}"/*.pids "$work"/*.log "$work"/*.conf /run/wireguard/*
}

# Whole machine, CPU-seconds until now.
machine() {
  awk -v hz="$(getconf CLK_TCK)" '{print ($2 + $3 + $4 + $7 + $8) / hz; exit}' /proc/stat
}

# CPU-seconds of all devices until now.
devices() {
  { cat "$work"/*.pids 2>/dev/null || true; } | sed 's|.*|/proc/&/stat|' | xargs -r cat |
    awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); cpu += $12 + $13} END {print cpu / hz}'
}

# MiB that the device of a namespace has in memory.
memory() {
  sed 's|.*|/proc/&/status|' "$work/$1.pids" | xargs cat | awk '/^VmRSS/ {kib += $2} END {printf "%.1f", kib / 1024}'
}

# iperf3 from `a` to an address; prints Gbit/s received and GB.
iperf() {
  local to=$1
  shift
  ip netns exec a iperf3 -c "$to" -t "$seconds" -f k --connect-timeout 3000 "$@" >"$work/iperf3-$to.log" 2>&1 ||
    fail "iperf3 $*: $(tail -n 1 "$work/iperf3-$to.log")"
  # Of UDP the datagrams lost and all are said; the last such line is that of the sum.
  awk '/receiver/ {
    line = $0
    sub(/^\[[^]]*\] */, "")
    split($1, span, "-")
    time = span[2]
    if (match(line, /[0-9]+\/[0-9]+ \(/)) {
      split(substr(line, RSTART, RLENGTH - 2), count, "/")
      bits = (count[2] - count[1]) * 1300 * 8
    } else bits = $5 * 1000 * time
  } END {if (time > 0) printf "%.4f %.4f\n", bits / time / 1e9, bits / 8 / 1e9}' "$work/iperf3-$to.log"
}

# note NAME METRIC VALUE
note() {
  echo "$*" >>"$work/results"
}

measure() {
  local name=$1 m0 m1 d0 d1 rate gb
  up "${command[$name]}" 1
  [[ $name == veth ]] || note "$name" memory-1 "$(memory a)"
  m0=$(machine) d0=$(devices)
  read -r rate gb < <(iperf "$target")
  m1=$(machine) d1=$(devices)
  note "$name" tcp1 "$rate"
  note "$name" cpu-machine "$(awk "BEGIN {print ($m1 - $m0) / $gb}")"
  [[ $name == veth ]] || note "$name" cpu-devices "$(awk "BEGIN {print ($d1 - $d0) / $gb}")"
  read -r rate gb < <(iperf "$target" -P 4)
  note "$name" tcp4 "$rate"
  read -r rate gb < <(iperf "$target" -R)
  note "$name" tcp-back "$rate"
  m0=$(machine)
  read -r rate gb < <(iperf "$target" -u -b 0 -l 1300)
  m1=$(machine)
  note "$name" udp "$rate"
  note "$name" cpu-udp "$(awk "BEGIN {print ($m1 - $m0) / $gb}")"
  note "$name" ping "$(ip netns exec a ping -i 0.002 -c 1000 -q "$target" | awk -F/ '/^rtt/ {print $5}')"
  [[ $name == veth ]] || note "$name" memory "$(printf '%s\n' "$(memory a)" "$(memory b1)" | sort -n | tail -n 1)"
  down
}

# strangers FROM COUNT: peers that nobody is, to be configured.
strangers() {
  awk -v seed="$1$RANDOM" -v from="$1" -v count="$2" 'BEGIN {
    srand(seed)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for (n = from; n < from + count; n++) {
      key = ""
      for (i = 0; i < 42; i++) key = key substr(digits, int(rand() * 64) + 1, 1)
      # 32 bytes leave two bits of the last digit unused.
      key = key substr(digits, int(rand() * 16) * 4 + 1, 1) "="
      printf "[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.%d.%d/32\n", key, int(n / 250) + 1, n % 250 + 1
    }
  }'
}

measure_peers() {
  local name=$1 have=8 count i d0 d1 total
  up "${command[$name]}" 8
  note "$name" memory-8 "$(memory a)"
  for count in 100 1000 "$peers"; do
    ((count > have)) || continue
    strangers "$have" $((count - have)) | wg addconf wg-a /dev/stdin
    have=$count
    note "$name" "memory-$count" "$(memory a)"
    ((count != peers)) || break
  done
  note "$name" one-of-many "$(iperf 10.9.0.9 | cut -d' ' -f1)"
  local running=()
  for ((i = 1; i <= 8; i++)); do
    iperf "10.9.0.$((i + 1))" >"$work/rate-$i" &
    running+=($!)
  done
  wait "${running[@]}"
  total=$(cat "$work"/rate-* | awk '{rate += $1} END {print rate}')
  note "$name" eight-at-once "$total"
  note "$name" memory-after "$(memory a)"
  sed -n 1p "$work/a.pids" >"$work/idle"
  d0=$(devices)
  sleep 10
  d1=$(devices)
  note "$name" idle "$(awk "BEGIN {print $d1 - $d0}")"
  down
}

load=$(cut -d' ' -f1 /proc/loadavg)
for ((round = 1; round <= repeat; round++)); do
  for program in "${order[@]}"; do
    echo "  round $round of $repeat: $program" >&2
    measure "$program"
    [[ $peers -eq 0 || $program == veth ]] || measure_peers "$program"
  done
done

# table METRIC WORDS ...: a row each, a column a program: median (least–most), and what ours is to the others.
table() {
  awk -v programs="${order[*]}" '
    function sort(list, n,    i, j, t) {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
        t = list[j]; list[j] = list[j - 1]; list[j - 1] = t
      }
    }
    function number(v) {
      return v >= 100 ? sprintf("%.0f", v) : v >= 10 ? sprintf("%.1f", v) : v >= 0.1 || v == 0 ? sprintf("%.2f", v) : sprintf("%.3f", v)
    }
    BEGIN {
      count = split(programs, names, " ")
      head = "| |"; line = "| --- |"
      for (i = 1; i <= count; i++) {head = head " " names[i] " |"; line = line " ---: |"; is_here[names[i]] = 1}
      ratios = 0
      if (is_here["tombolo"]) for (i = 1; i <= count; i++) if (names[i] ~ /^(gotatun|wireguard-go)$/) {
        others[++ratios] = names[i]
        head = head " ours / " names[i] " |"; line = line " ---: |"
      }
      print head; print line
    }
    FNR == NR {values[$1, $2, ++n[$1, $2]] = $3; next}
    {
      metric = $1; words = $0; sub(/^[^ ]+ /, "", words)
      row = "| " words " |"; any = 0
      for (i = 1; i <= count; i++) {
        name = names[i]; k = n[name, metric]
        if (!k) {row = row " – |"; continue}
        any = 1
        for (j = 1; j <= k; j++) list[j] = values[name, metric, j] + 0
        sort(list, k)
        median[name] = k % 2 ? list[(k + 1) / 2] : (list[k / 2] + list[k / 2 + 1]) / 2
        row = row " " number(median[name]) (k > 1 ? " (" number(list[1]) "–" number(list[k]) ")" : "") " |"
      }
      for (i = 1; i <= ratios; i++)
        row = row " " (median[others[i]] > 0 ? sprintf("%.2f", median["tombolo"] / median[others[i]]) : "–") " |"
      if (any) print row
    }' "$work/results" -
}

echo
table <<END
tcp1 TCP, 1 stream, Gbit/s
tcp4 TCP, 4 streams, Gbit/s
tcp-back TCP, 1 stream the other way, Gbit/s
udp UDP, 1300 B, Gbit/s received
ping ping, 500/s, ms
cpu-machine CPU-s a GB, TCP, the whole machine
cpu-devices CPU-s a GB, TCP, the two devices
cpu-udp CPU-s a GB received, UDP, the whole machine
memory memory after that, MiB, the larger end
END
if ((peers)); then
  echo
  {
    echo "one-of-many TCP to 1 of $peers peers, Gbit/s"
    echo "eight-at-once TCP to 8 of them at once, Gbit/s"
    printf '%s\n' 1 8 100 1000 "$peers" | sort -nu | sed 's/.*/memory-& memory with & peers configured, MiB/'
    echo "memory-after memory after the load, MiB"
    echo "idle CPU-s in 10 s without traffic, all 9 devices"
  } | table
fi
echo
echo "$seconds s a turn, $repeat rounds, median (least–most); $(nproc) cores," \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r); $(date -u +%F)," \
  "load average $load before"
for program in "${order[@]}"; do
  case $program in
    gotatun) "$gotatun" --version | head -n 1 ;;
    wireguard-go) wireguard-go --version | head -n 1 ;;
    tombolo) "$tombolo" --version ;;
  esac
done | paste -sd ';' | sed 's/;/; /g'
