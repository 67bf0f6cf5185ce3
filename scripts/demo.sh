#!/usr/bin/env bash
# Two clusters in network namespaces become one network: each command is printed, then what it answered.
# `make demo` calls it. It leaves nothing behind; `tombolo lab up` does the first step and leaves the clusters running.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
tombolo=${TOMBOLO:-$PWD/target/release/tombolo}
name=${LAB:-demo}
run=/run/tombolo-lab/$name

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# Prints a command as it would be typed, and runs it.
do_() {
  printf '%s$ %s%s\n' "$dim" "$1" "$plain"
  eval "$1"
}
# The same, again until it works: what was just asked for may take a moment.
until_() {
  local deadline=$((SECONDS + 15))
  printf '%s$ %s%s\n' "$dim" "$1" "$plain"
  until answer=$(eval "$1" 2>&1); do
    if ((SECONDS > deadline)); then
      printf '%s\n' "$answer"
      printf 'error: this did not work within 15 seconds; the agents say:\n' >&2
      tail -n 5 "$run"/nodes/*/agent.log >&2
      exit 1
    fi
    read -rt 0.1 <> <(:) || true
  done
  printf '%s\n' "$answer"
}

[[ $(id -u) -eq 0 ]] || { echo "error: network namespaces take root: sudo make demo" >&2; exit 1; }

work=$(mktemp -d)
capture=
finish() {
  [[ -z $capture ]] || kill "$capture" 2>/dev/null || true
  "$tombolo" lab down --name "$name" >/dev/null 2>&1 || true
  "$tombolo" lab down --name "${name}bgp" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
"$tombolo" lab down --name "$name" >/dev/null 2>&1 || true

say "Two Kubernetes clusters: an API server and two nodes each, in two networks with a router between"
do_ "tombolo() { $tombolo \"\$@\"; }"
do_ "tombolo lab up --name $name --services=false | head -n 12"
export PATH="$run/bin:$PATH"
do_ "export KUBECONFIG1=$run/cluster1.kubeconfig SERVICECIDR1=10.101.0.0/16"
do_ "export KUBECONFIG2=$run/cluster2.kubeconfig SERVICECIDR2=10.102.0.0/16"
export KUBECACHEDIR="$work/kubectl-cache"
do_ 'kubectl --kubeconfig $KUBECONFIG1 get nodes -o wide'

say "A web server on each node of cluster1, behind a Service; a client in cluster2"
cat >"$work/web.yaml" <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: tombolo/web}]
---
apiVersion: v1
kind: Service
metadata: {name: important-service}
spec:
  selector: {app: web}
  ports: [{port: 80}]
YAML
cat >"$work/client.yaml" <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: client, image: tombolo/pause}]
YAML
do_ "kubectl --kubeconfig \$KUBECONFIG1 apply -f $work/web.yaml"
do_ "kubectl --kubeconfig \$KUBECONFIG2 apply -f $work/client.yaml"
do_ 'kubectl --kubeconfig $KUBECONFIG1 wait --for=condition=Available deployment/web --timeout=30s'
do_ 'kubectl --kubeconfig $KUBECONFIG2 wait --for=condition=Ready pod/client --timeout=30s'
do_ 'kubectl --kubeconfig $KUBECONFIG1 get pods,services -o wide'

say "Peer the nodes, both ways, with the loop of Kilo's multi-cluster guide (a node that leads no location gives nothing to apply)"
do_ 'for n in $(kubectl --kubeconfig $KUBECONFIG1 get no -o name | cut -d/ -f2); do
  kgctl --kubeconfig $KUBECONFIG1 showconf node $n --as-peer -o yaml --allowed-ips $SERVICECIDR1 |
    kubectl --kubeconfig $KUBECONFIG2 apply -f - || true
done'
do_ 'for n in $(kubectl --kubeconfig $KUBECONFIG2 get no -o name | cut -d/ -f2); do
  kgctl --kubeconfig $KUBECONFIG2 showconf node $n --as-peer -o yaml --allowed-ips $SERVICECIDR2 |
    kubectl --kubeconfig $KUBECONFIG1 apply -f - || true
done'
do_ 'kubectl --kubeconfig $KUBECONFIG2 get peers'

say "What crosses the router from here on is captured"
ip netns exec "tl-$name-router" tcpdump -i any -n -l -q -Z root \
  '(net 172.18.1.0/24 or net 10.41.0.0/16 or net 10.101.0.0/16) and (net 172.18.2.0/24 or net 10.42.0.0/16 or net 10.102.0.0/16)' \
  >"$work/capture" 2>/dev/null &
capture=$!

say "A pod of cluster2 reaches a pod and a Service of cluster1"
pod=$(kubectl --kubeconfig "$KUBECONFIG1" get pods -l app=web -o jsonpath='{.items[0].status.podIP}')
service=$(kubectl --kubeconfig "$KUBECONFIG1" get service important-service -o jsonpath='{.spec.clusterIP}')
until_ "tombolo lab exec --name $name cluster2/client -- ping -c 2 -i 0.2 -W 1 $pod"
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://$pod/"
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://$service/"

say "Mirror the Service by hand: the same name in cluster2"
cat >"$work/mirror.yaml" <<YAML
apiVersion: v1
kind: Service
metadata: {name: important-service}
spec:
  ports: [{port: 80}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: important-service}
subsets:
- addresses: [{ip: $service}]
  ports: [{port: 80}]
YAML
do_ "cat $work/mirror.yaml"
do_ "kubectl --kubeconfig \$KUBECONFIG2 apply -f $work/mirror.yaml"
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://important-service.default.svc.cluster.local/"
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://important-service/"

say "Between the clusters there was WireGuard and nothing else"
kill -INT "$capture" && wait "$capture" 2>/dev/null || true
capture=
wireguard=$(grep -c ' UDP' "$work/capture" || true)
others=$(grep -vc -e ' UDP' -e '^$' "$work/capture" || true)
echo "packets captured in the router: $wireguard of WireGuard, $others others"
tail -n 2 "$work/capture"
[[ $others -eq 0 && $wireguard -gt 0 ]] || { echo "error: that is not as it should be" >&2; exit 1; }
do_ "tombolo lab node --name $name cluster2/n1 -- wg show kilo0"

say "Peers deleted: cluster1 is gone from cluster2"
do_ 'kubectl --kubeconfig $KUBECONFIG2 delete peers --all'
do_ 'kubectl --kubeconfig $KUBECONFIG1 delete peers --all'
until_ "! tombolo lab exec --name $name cluster2/client -- ping -c 1 -W 1 $pod"

do_ "tombolo lab down --name $name"

say "Second act: clusters on one trusted network exchange routes by BGP, through a route reflector (here FRR), as kube-router's do"
name=${name}bgp
run=/run/tombolo-lab/$name
"$tombolo" lab down --name "$name" >/dev/null 2>&1 || true
do_ "tombolo lab up --name $name --underlay flat --interconnect bgp --reflector frr | head -n 18"
export PATH="$run/bin:$PATH"
do_ "export KUBECONFIG1=$run/cluster1.kubeconfig KUBECONFIG2=$run/cluster2.kubeconfig"
do_ "kubectl --kubeconfig \$KUBECONFIG1 apply -f $work/web.yaml"
do_ "kubectl --kubeconfig \$KUBECONFIG2 apply -f $work/client.yaml"
do_ 'kubectl --kubeconfig $KUBECONFIG1 wait --for=condition=Available deployment/web --timeout=30s'
do_ 'kubectl --kubeconfig $KUBECONFIG2 wait --for=condition=Ready pod/client --timeout=30s'
until_ "grep 'Peer Up' $run/nodes/c2-n1/agent.log"
pod=$(kubectl --kubeconfig "$KUBECONFIG1" get pods -l app=web -o jsonpath='{.items[0].status.podIP}')
service=$(kubectl --kubeconfig "$KUBECONFIG1" get service important-service -o jsonpath='{.spec.clusterIP}')
until_ "tombolo lab exec --name $name cluster2/client -- ping -c 2 -i 0.2 -W 1 $pod"
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://$service/"
do_ "tombolo lab node --name $name cluster2/n1 -- tombolo bgp neighbors"
do_ "tombolo lab node --name $name cluster2/n1 -- ip route"
do_ "vtysh --vty_socket $run/reflector -c 'show bgp summary'"

say "Third act: each cluster has a controller, which mirrors what the other one labels, under its own name"
do_ 'kubectl --kubeconfig $KUBECONFIG1 label service important-service mirror=true'
until_ 'kubectl --kubeconfig $KUBECONFIG2 get service important-service && kubectl --kubeconfig $KUBECONFIG2 get endpointslices'
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://important-service/"

say "The Multi-Cluster Services API: exported there, one service of that name in all clusters"
cat >"$work/export.yaml" <<'YAML'
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: important-service}
YAML
do_ "kubectl --kubeconfig \$KUBECONFIG1 apply -f $work/export.yaml"
until_ 'kubectl --kubeconfig $KUBECONFIG2 get serviceimport important-service'
until_ "tombolo lab exec --name $name cluster2/client -- curl -sS -m 3 http://important-service.default.svc.clusterset.local/"
do_ "kubectl --kubeconfig \$KUBECONFIG1 get serviceexport important-service -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}{\"\\n\"}{end}'"

say "That was it (${SECONDS} s). Clusters of your own to play with:"
cat <<EOF
  target/release/tombolo lab up        # prints what is where, and what to type
  target/release/tombolo lab down      # removes all of it
  target/release/tombolo lab up --underlay flat --interconnect bgp
Then README.md, docs/lab.md, docs/bgp.md, docs/services.md, docs/architecture.md.
EOF
