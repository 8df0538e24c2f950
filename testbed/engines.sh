# What the container engines of the test bed share: a runtime for machines that may not give every capability, and the registry's image.
# Sourced after common.sh; $folder is the test bed's.
# shellcheck shell=bash

# What the product's declarations name. The binary inside is that of Debian's package, whose version is the other tag.
# shellcheck disable=SC2034 # It is for the sourcing script.
readonly registry_reference="docker.io/library/registry:2.8.3"

# Where the machine itself may not give CAP_SYS_RESOURCE, nothing privileged starts: runc refuses to give what it lacks. Then
# an engine's runtime is runc behind this, which takes that one capability out of what is asked for. A second argument is a further change
# of what is asked for, as sed has it.
write_runtime() {
  local runtime=$1 also=${2:-}
  printf '#!/bin/sh\nalso=%q\n' "$also" >"$runtime.new"
  cat >>"$runtime.new" <<'SH'
strip() { sed -i -e 's/"CAP_SYS_RESOURCE",//g' -e 's/,"CAP_SYS_RESOURCE"//g' -e "$also" "$1"; }
before=
for argument in "$@"; do
  case $before in
  --bundle | -b) strip "$argument/config.json" ;;
  --process | -p) strip "$argument" ;;
  esac
  case $argument in
  --bundle=*) strip "${argument#*=}/config.json" ;;
  --process=*) strip "${argument#*=}" ;;
  esac
  before=$argument
done
exec runc "$@"
SH
  chmod 0755 "$runtime.new"
  mv "$runtime.new" "$runtime"
}

# Bit 24 of the capabilities that a process here can come to have.
may_have_sys_resource() {
  local bounding
  bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
  (((16#$bounding >> 24) & 1))
}

# The version of the registry in its image, as a tag can have it.
registry_version() { docker-registry --version | grep -o '[0-9][0-9.]*[^ ]*$' | tr -c 'A-Za-z0-9_.\n-' '-'; }

# The registry's image, from Debian's binary with the libraries that it needs, as a tar of its files. Prints where it is.
registry_tar() {
  local tar root library
  # shellcheck disable=SC2154 # It is the sourcing script's.
  tar="$folder/images/registry-$(registry_version).tar"
  mkdir -p "$folder/images"
  if [[ ! -s $tar ]]; then
    root=$(mktemp -d)
    mkdir -p "$root/bin" "$root/etc/ssl/certs" "$root/etc/docker/registry" "$root/var/lib/registry" "$root/tmp"
    cp "$(command -v docker-registry)" "$root/bin/registry"
    while read -r library; do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done < <(ldd "$root/bin/registry" | grep -o '/[^ ]*')
    if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
      cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    fi
    cat >"$root/etc/docker/registry/config.yml" <<'YAML'
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
YAML
    tar -C "$root" --owner=0 --group=0 --numeric-owner -cf "$tar.new.$$" .
    mv "$tar.new.$$" "$tar"
    rm -rf "$root"
  fi
  printf '%s' "$tar"
}
