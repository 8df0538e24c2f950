#!/usr/bin/env bash
# Real clients of Kubernetes that the tests run against the embedded cluster, from nothing but a Go toolchain: `build`, `env`.
#
#   testbed/clients.sh build          an older kubectl, helm, and our own program of client-go's informers
#   eval "$(testbed/clients.sh env)"  sets KSAIL_TEST_KUBECTL_OLDER, KSAIL_TEST_HELM and KSAIL_TEST_INFORMERS
#
# They live in $KSAIL_TESTBED (~/.cache/ksail-testbed by default). The programs are built from their Go modules, which takes some
# minutes once, and are kept by their versions.
set -euo pipefail

# kubectl's module is that of its own repository: v0.34.3 is kubectl 1.34.3.
readonly kubectl_version="1.34.3" helm_version="4.3.1"
# How often a build is tried (it downloads).
readonly tries=3
folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}/clients"
informers_source="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/tests/informers"
kubectl="$folder/programs/kubectl-$kubectl_version"
helm="$folder/programs/helm-$helm_version"
informers="$folder/programs/informers-$(cat "$informers_source"/go.mod "$informers_source"/go.sum "$informers_source"/main.go | sha256sum | cut -c 1-16)"

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Builds a package of the module in the working folder as a program.
go_build() {
  local program=$1 package=$2 flags=$3
  say "building ${program##*/}"
  CGO_ENABLED=0 GOFLAGS=-mod=mod nice -n 10 go build -trimpath -ldflags "$flags" -o "$program.new" "$package" || return 1
  mv "$program.new" "$program"
}

tidy() { GOFLAGS=-mod=mod go mod tidy >tidy.log 2>&1 || { tail -n 20 tidy.log >&2; return 1; }; }

build_kubectl() (
  [[ -x $kubectl ]] && return 0
  mkdir -p "$folder/build/${kubectl##*/}"
  cd "$folder/build/${kubectl##*/}" || return 1
  printf 'module ksail-testbed/kubectl\n\ngo 1.24\n\nrequire k8s.io/kubectl v0.%s\n' "${kubectl_version#1.}" >go.mod
  # As kubectl itself begins.
  cat >main.go <<'GO'
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
GO
  tidy || return 1
  local from="k8s.io/component-base/version"
  go_build "$kubectl" . "-s -w -X $from.gitVersion=v$kubectl_version -X $from.gitMajor=1 -X $from.gitMinor=34"
)

build_helm() (
  [[ -x $helm ]] && return 0
  mkdir -p "$folder/build/${helm##*/}"
  cd "$folder/build/${helm##*/}" || return 1
  printf 'module ksail-testbed/helm\n\ngo 1.25\n\nrequire helm.sh/helm/v4 v%s\n' "$helm_version" >go.mod
  cat >tools.go <<'GO'
//go:build tools

package tools

import _ "helm.sh/helm/v4/cmd/helm"
GO
  tidy || return 1
  go_build "$helm" helm.sh/helm/v4/cmd/helm "-s -w -X helm.sh/helm/v4/internal/version.version=v$helm_version"
)

build_informers() (
  [[ -x $informers ]] && return 0
  cd "$informers_source" || return 1
  say "building ${informers##*/}"
  # What its go.sum names, and nothing else.
  CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 10 go build -trimpath -ldflags "-s -w" -o "$informers.new" . || return 1
  mv "$informers.new" "$informers"
)

build() {
  command -v go >/dev/null || fail "a Go toolchain is needed to build the clients"
  mkdir -p "$folder/programs"
  exec 9>"$folder/lock"
  flock 9
  retry build_kubectl
  retry build_helm
  retry build_informers
  flock -u 9
  say "kubectl $kubectl_version, helm $helm_version and informers in $folder/programs"
}

case "${1:-}" in
build) build ;;
env)
  printf 'export KSAIL_TEST_KUBECTL_OLDER=%s\n' "$kubectl"
  printf 'export KSAIL_TEST_HELM=%s\n' "$helm"
  printf 'export KSAIL_TEST_INFORMERS=%s\n' "$informers"
  ;;
*)
  say "usage: $0 build|env"
  exit 2
  ;;
esac
