#!/usr/bin/env bash
# A real Kubernetes control plane for the tests, from nothing but a Go toolchain: `up`, `down`, `env`.
#
#   testbed/kubernetes.sh up             etcd, kube-apiserver and kube-controller-manager of our own, on free ports
#   eval "$(testbed/kubernetes.sh env)"  sets KSAIL_TEST_KUBECONFIG for the tests, and KSAIL_TEST_KUBECTL
#   testbed/kubernetes.sh down           stops them and forgets what they held; the built programs stay
#   testbed/kubernetes.sh build [PROGRAM…] builds what is started here, and further programs of Kubernetes
#   testbed/kubernetes.sh crash PROGRAM  kills one of them; `again PROGRAM` starts it as before
#
# KSAIL_TESTBED_WORLD names another control plane beside the first.
#
# All of it lives in $KSAIL_TESTBED (~/.cache/ksail-testbed by default). The programs are built from their Go modules, which
# takes some minutes once, and are kept by their versions. There are no nodes: objects are stored and controlled, no pod runs.
set -euo pipefail

readonly kubernetes_version="1.36.3" etcd_version="3.6.8"
folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}/kubernetes"
programs="$folder/programs/kubernetes-$kubernetes_version-etcd-$etcd_version"
world="$folder/${KSAIL_TESTBED_WORLD:-world}"
certificates="$world/pki"
# How often a build is tried (it downloads), and how long a program may take to answer or to stop, in seconds.
readonly tries=3 start_seconds=120 stop_seconds=20
# What is started here, and what testbed/node-image.sh needs beside.
readonly of_the_world=(kube-apiserver kube-controller-manager kubectl) of_nodes=(kube-scheduler kubelet kubeadm kube-proxy)

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Three free ports at once, so that they differ.
free_ports() {
  python3 - <<'PYTHON'
import socket

sockets = [socket.socket() for _ in range(4)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PYTHON
}

# The pid in a file, if it is still the program that was started.
running() {
  local pid
  [[ -s $1 ]] || return 1
  pid=$(<"$1")
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$programs/$2" ]] || return 1
  printf '%s' "$pid"
}

stop() {
  local pid tenth
  pid=$(running "$1" "$2") || return 0
  kill "$pid"
  for ((tenth = 0; tenth < stop_seconds * 10; tenth++)); do
    if ! kill -0 "$pid" 2>/dev/null; then return 0; fi
    # Nothing here is kept, so a slow end is not waited for.
    if ((tenth == stop_seconds * 5)); then kill -KILL "$pid"; fi
    sleep 0.1
  done
  fail "$2 (pid $pid) did not stop within $stop_seconds s"
}

go_build() {
  local name=$1 package=$2
  shift 2
  [[ -x $programs/$name ]] && return 0
  say "building $name"
  # Called where a failure does not end the script by itself.
  CGO_ENABLED=0 GOFLAGS=-mod=mod nice -n 10 go build -trimpath "$@" -o "$programs/$name.new" "$package" || return 1
  mv "$programs/$name.new" "$programs/$name"
}

build_etcd() (
  [[ -x $programs/etcd ]] && return 0
  mkdir -p "$folder/build/etcd-$etcd_version"
  cd "$folder/build/etcd-$etcd_version"
  cat >go.mod <<GOMOD
module ksail-testbed/etcd

go 1.25

require go.etcd.io/etcd/server/v3 v$etcd_version
GOMOD
  cat >main.go <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
  GOFLAGS=-mod=mod go mod tidy >tidy.log 2>&1 || { tail -n 20 tidy.log >&2; return 1; }
  go_build etcd . -ldflags "-s -w"
)

# Builds the programs of Kubernetes that are named.
build_kubernetes() (
  local name missing=0
  for name in "$@"; do [[ -x $programs/$name ]] || missing=1; done
  ((missing)) || return 0
  mkdir -p "$folder/build/kubernetes-$kubernetes_version"
  cd "$folder/build/kubernetes-$kubernetes_version"
  # The module names its parts by a version that exists only in its own tree: each is replaced by the published one.
  printf 'module ksail-testbed/kubernetes\n\ngo 1.25\n\nrequire k8s.io/kubernetes v%s\n' "$kubernetes_version" >go.mod
  go mod download -json "k8s.io/kubernetes@v$kubernetes_version" >download.json || return 1
  local own part
  own=$(sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' download.json)
  {
    printf '\nreplace (\n'
    while read -r part; do
      printf '\t%s => %s v0.%s\n' "$part" "$part" "${kubernetes_version#1.}"
    done < <(awk '$1 ~ /^k8s\.io\// && $2 == "v0.0.0" { print $1 }' "$own" | sort -u)
    printf ')\n'
  } >>go.mod
  {
    printf '//go:build tools\n\npackage tools\n\nimport (\n'
    printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "${of_the_world[@]}" "${of_nodes[@]}"
    printf ')\n'
  } >tools.go
  local from="k8s.io/component-base/version"
  local flags="-s -w -X $from.gitVersion=v$kubernetes_version -X $from.gitMajor=1 -X $from.gitMinor=36"
  GOFLAGS=-mod=mod go get "k8s.io/kubernetes@v$kubernetes_version" >get.log 2>&1 || { tail -n 20 get.log >&2; return 1; }
  for name in "$@"; do
    go_build "$name" "k8s.io/kubernetes/cmd/$name" -ldflags "$flags" || return 1
  done
)

build() {
  command -v go >/dev/null || fail "a Go toolchain is needed to build Kubernetes"
  mkdir -p "$programs"
  retry build_etcd
  retry build_kubernetes "${of_the_world[@]}" "$@"
}

certificate() {
  local name=$1 subject=$2 extension=$3
  openssl ecparam -name prime256v1 -genkey -noout -out "$certificates/$name.key"
  openssl req -new -key "$certificates/$name.key" -subj "$subject" -out "$certificates/$name.csr"
  openssl x509 -req -in "$certificates/$name.csr" -CA "$certificates/ca.crt" -CAkey "$certificates/ca.key" -CAcreateserial \
    -days 3650 -extfile <(printf '%s\n' "$extension") -out "$certificates/$name.crt" 2>/dev/null
}

make_certificates() {
  rm -rf "$certificates"
  mkdir -p "$certificates"
  openssl ecparam -name prime256v1 -genkey -noout -out "$certificates/ca.key"
  openssl req -x509 -new -key "$certificates/ca.key" -subj "/CN=ksail-testbed" -days 3650 -out "$certificates/ca.crt"
  certificate server /CN=kube-apiserver \
    'subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1'
  certificate admin /O=system:masters/CN=ksail-testbed-admin 'extendedKeyUsage=clientAuth'
  certificate controllers /CN=system:kube-controller-manager 'extendedKeyUsage=clientAuth'
  openssl genrsa -out "$certificates/accounts.key" 2048 2>/dev/null
}

kubeconfig() {
  local path=$1 user=$2
  (umask 077 && cat >"$path.new" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: testbed
    cluster:
      server: https://127.0.0.1:$api_port
      certificate-authority-data: $(base64 -w0 "$certificates/ca.crt")
users:
  - name: $user
    user:
      client-certificate-data: $(base64 -w0 "$certificates/$user.crt")
      client-key-data: $(base64 -w0 "$certificates/$user.key")
contexts:
  - name: testbed
    context: {cluster: testbed, user: $user}
current-context: testbed
YAML
  )
  mv "$path.new" "$path"
}

our_kubectl() { "$programs/kubectl" --kubeconfig "$world/kubeconfig" "$@"; }

start() {
  local name=$1
  shift
  printf '%s\0' "$@" >"$world/$name.arguments"
  # Nothing of the caller stays open in the program: neither its streams nor the lock.
  setsid "$programs/$name" "$@" >>"$world/$name.log" 2>&1 </dev/null 9>&- &
  printf '%s' "$!" >"$world/$name.pid"
}

wait_until() {
  local name=$1 tenth
  shift
  for ((tenth = 0; tenth < start_seconds * 10; tenth++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    running "$world/$name.pid" "$name" >/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$world/$name.log" >&2
  fail "$name does not answer; its log is $world/$name.log"
}

answers() { our_kubectl get --raw /readyz >/dev/null 2>&1; }
controls() { our_kubectl -n default get serviceaccount default; }

start_world() {
  local etcd_port peer_port controllers_port
  if answers; then return 0; fi
  stop_world
  rm -rf "$world"
  mkdir -p "$world"
  chmod 0700 "$world"
  read -r etcd_port peer_port api_port controllers_port < <(free_ports)
  make_certificates
  kubeconfig "$world/kubeconfig" admin
  kubeconfig "$world/controllers.kubeconfig" controllers
  # What the tests hold need not survive a power cut.
  start etcd --name testbed --data-dir "$world/etcd" --unsafe-no-fsync \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "testbed=http://127.0.0.1:$peer_port" --log-level warn
  start kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" --secure-port "$api_port" --bind-address 127.0.0.1 \
    --advertise-address 192.0.2.1 --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/12 \
    --authorization-mode Node,RBAC --allow-privileged --client-ca-file "$certificates/ca.crt" \
    --tls-cert-file "$certificates/server.crt" --tls-private-key-file "$certificates/server.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$certificates/accounts.key" --service-account-signing-key-file "$certificates/accounts.key" \
    --cert-dir "$world/apiserver-certs"
  wait_until kube-apiserver answers
  start kube-controller-manager --kubeconfig "$world/controllers.kubeconfig" --secure-port "$controllers_port" \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file "$certificates/accounts.key" --root-ca-file "$certificates/ca.crt" \
    --cert-dir "$world/controllers-certs"
  wait_until kube-controller-manager controls
}

stop_world() {
  stop "$world/kube-controller-manager.pid" kube-controller-manager
  stop "$world/kube-apiserver.pid" kube-apiserver
  stop "$world/etcd.pid" etcd
}

locked() {
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock 9
}

up() {
  locked
  build
  start_world
  flock -u 9
  say "Kubernetes $kubernetes_version, kubeconfig $world/kubeconfig"
}

down() {
  [[ -d $folder ]] || return 0
  locked
  stop_world
  rm -rf "$world"
}

crash() {
  local pid
  pid=$(running "$world/$1.pid" "$1") || fail "$1 does not run"
  kill -KILL "$pid"
}

again() {
  local arguments
  mapfile -d '' arguments <"$world/$1.arguments"
  start "$1" "${arguments[@]}"
  if [[ $1 == kube-apiserver ]]; then wait_until kube-apiserver answers; fi
}

case "${1:-}" in
crash | again) "$1" "${2:?a program}" ;;
build) locked && build "${@:2}" ;;
up) up ;;
down) down ;;
env)
  printf 'export KSAIL_TEST_KUBECONFIG=%s\n' "$world/kubeconfig"
  printf 'export KSAIL_TEST_KUBECTL=%s\n' "$programs/kubectl"
  ;;
*)
  say "usage: $0 build|up|down|env|crash|again"
  exit 2
  ;;
esac
