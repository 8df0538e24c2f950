#!/usr/bin/env bash
# A node image of Kubernetes to the contract of kind, and kind itself, from nothing but a Go toolchain and Debian's packages.
#
#   testbed/node-image.sh up            builds what is missing and loads the image into the engine of testbed/docker.sh
#   eval "$(testbed/node-image.sh env)" sets KSAIL_TEST_NODE_IMAGE, KSAIL_TEST_NEXT_NODE_IMAGE, KSAIL_TEST_BALANCER_IMAGE and
#                                       KSAIL_TEST_KIND for the tests
#   testbed/node-image.sh remove        takes the images off the engine; what is built stays
#
# The load balancers of several control planes are those of testbed/balancers.sh.
# The image holds what kind's own does as far as a cluster needs it: systemd, containerd, the kubelet, kubeadm, kubectl, and
# the images of the control plane, of kube-proxy and of CoreDNS. Its network plugin, its entrypoint and its manifests are our
# own (testbed/node). A second image, for upgrades, is the same source under the number of the next patch version. All of it lives in $KSAIL_TESTBED (~/.cache/ksail-testbed by default), kept by versions and by the digest
# of these files, so that the second `up` takes seconds; the first one takes about fifteen minutes, most of it Go builds.
set -euo pipefail

readonly kubernetes_version="1.36.3" etcd_version="3.6.8"
readonly containerd_version="2.3.4" coredns_version="1.14.2" kind_version="0.33.0"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}"
folder="$root/node"
kubernetes="$root/kubernetes/programs/kubernetes-$kubernetes_version-etcd-$etcd_version"
programs="$folder/programs"
base="$folder/base-bookworm-1.tar"
# What the product's declarations name, and what real kind is told.
readonly reference="kindest/node:v$kubernetes_version"
# The next patch version, which need not be published: its programs are those of this one that say another number of the same length.
readonly next_version="1.36.4"
readonly next_reference="kindest/node:v$next_version"
# How often what downloads is tried, and how long containerd may take to answer, in seconds.
readonly tries=3 start_seconds=30
readonly packages="systemd,systemd-sysv,dbus,iptables,nftables,conntrack,socat,ethtool,kmod,iproute2,ebtables,mount,util-linux,procps,jq,runc,containernetworking-plugins,ca-certificates,iputils-ping"

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What the image is made from, so that another content is another image.
digest() {
  {
    printf '%s\n' "$kubernetes_version" "$etcd_version" "$containerd_version" "$coredns_version" "$packages"
    find "$here/node" "$here/node-image.sh" -type f -print0 | sort -z | xargs -0 sha256sum | cut -d' ' -f1
  } | sha256sum | cut -c1-16
}

# Builds a program from a module: name, module, version, package, and flags of the build.
build_module() {
  local name=$1 module=$2 version=$3 package=$4
  shift 4
  [[ -x $programs/$name-$version ]] && return 0
  say "building $name $version"
  (
    mkdir -p "$folder/build/$name-$version"
    cd "$folder/build/$name-$version"
    printf 'module ksail-testbed/%s\n\ngo 1.25\n' "$name" >go.mod
    printf '//go:build tools\n\npackage tools\n\nimport _ "%s"\n' "$package" >tools.go
    GOFLAGS=-mod=mod go get "$module@v$version" >get.log 2>&1 || {
      tail -n 20 get.log >&2
      exit 1
    }
    CGO_ENABLED=0 GOFLAGS=-mod=mod nice -n 10 go build -trimpath "$@" -o "$programs/$name-$version.new" "$package" || exit 1
    mv "$programs/$name-$version.new" "$programs/$name-$version"
  )
}

build_network() {
  local name
  name="network-$(sha256sum "$here/node/network.go" | cut -c1-16)"
  network_program="$programs/$name"
  [[ -x $network_program ]] && return 0
  say "building the network plugin"
  CGO_ENABLED=0 nice -n 10 go build -trimpath -ldflags "-s -w" -o "$network_program.new" "$here/node/network.go" || return 1
  mv "$network_program.new" "$network_program"
}

build_pause() {
  local name
  name="pause-$(sha256sum "$here/node/pause.c" | cut -c1-16)"
  pause_program="$programs/$name"
  [[ -x $pause_program ]] && return 0
  cc -Os -static -o "$pause_program.new" "$here/node/pause.c" || return 1
  mv "$pause_program.new" "$pause_program"
}

build_programs() {
  local containerd="github.com/containerd/containerd/v2" name
  mkdir -p "$programs"
  "$here/kubernetes.sh" build kube-scheduler kubelet kubeadm kube-proxy
  for name in containerd containerd-shim-runc-v2 ctr; do
    retry build_module "$name" "$containerd" "$containerd_version" "$containerd/cmd/$name" \
      -tags "no_aufs no_zfs no_btrfs no_devmapper" -ldflags "-s -w -X $containerd/version.Version=v$containerd_version"
  done
  retry build_module etcdctl go.etcd.io/etcd/etcdctl/v3 "$etcd_version" go.etcd.io/etcd/etcdctl/v3 -ldflags "-s -w"
  retry build_module coredns github.com/coredns/coredns "$coredns_version" github.com/coredns/coredns -ldflags "-s -w"
  retry build_module kind sigs.k8s.io/kind "$kind_version" sigs.k8s.io/kind -ldflags "-s -w"
  build_network
  build_pause
}

# A debootstrap that was cut off leaves /proc and /sys mounted in it.
remove_base() {
  umount "$folder/base/proc" "$folder/base/sys" 2>/dev/null || true
  rm -rf --one-file-system "$folder/base"
}

# Debian with systemd 252: newer ones do not boot on cgroup v1.
build_base() {
  [[ -s $base ]] && return 0
  [[ $(id -u) == 0 ]] || fail "root is needed to build the base of the node image"
  if ! command -v debootstrap >/dev/null; then
    say "installing debootstrap"
    retry apt_install debootstrap
  fi
  say "building the base of the node image"
  remove_base
  debootstrap --variant=minbase --include="$packages" bookworm "$folder/base" http://deb.debian.org/debian \
    >"$folder/debootstrap.log" 2>&1 9>&- || {
    tail -n 20 "$folder/debootstrap.log" >&2
    remove_base
    return 1
  }
  rm -rf "$folder"/base/var/cache/apt/* "$folder"/base/var/lib/apt/lists/* "$folder"/base/usr/share/{doc,man,locale}
  tar -C "$folder/base" --numeric-owner -cf "$base.new" .
  mv "$base.new" "$base"
  remove_base
}

# An image as `docker save` writes it, of one layer: a folder, the references, and the program that it starts.
image_tar() {
  local tar=$1 content=$2 names=$3 entrypoint=$4 work id
  work=$(mktemp -d "$folder/image.XXXXXX")
  tar -C "$content" --numeric-owner --owner=0 --group=0 --mtime=@0 --sort=name -cf "$work/layer.tar" .
  jq -nc --arg id "sha256:$(sha256sum "$work/layer.tar" | cut -d' ' -f1)" --arg entrypoint "$entrypoint" '{
    architecture: "amd64", os: "linux",
    config: {Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Entrypoint: [$entrypoint]},
    rootfs: {type: "layers", diff_ids: [$id]}}' >"$work/config.json"
  id=$(sha256sum "$work/config.json" | cut -d' ' -f1)
  mv "$work/config.json" "$work/$id.json"
  jq -nc --arg config "$id.json" --arg names "$names" \
    '[{Config: $config, RepoTags: ($names | split(" ")), Layers: ["layer.tar"]}]' >"$work/manifest.json"
  tar -C "$work" -cf "$tar" .
  rm -rf "$work"
}

# What iptables, nft, ip and conntrack need, from the base.
tools_of_network() {
  local from=$1 to=$2 program library
  mkdir -p "$to/usr/sbin" "$to/usr/lib/x86_64-linux-gnu" "$to/run" "$to/etc" "$to/tmp"
  ln -s usr/lib "$to/lib"
  ln -s usr/lib64 "$to/lib64"
  ln -s usr/sbin "$to/sbin"
  ln -s usr/bin "$to/bin"
  mkdir -p "$to/usr/lib64" "$to/usr/bin"
  cp -L "$from/lib64/ld-linux-x86-64.so.2" "$to/usr/lib64/"
  for program in xtables-nft-multi nft conntrack ip; do
    cp -L "$(find "$from/usr/sbin" "$from/usr/bin" "$from/sbin" "$from/bin" -name "$program" | head -n 1)" "$to/usr/sbin/$program"
    while read -r library; do
      cp -Ln "$from$library" "$to/usr/lib/x86_64-linux-gnu/"
    done < <(chroot "$from" ldd "/usr/sbin/$program" 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' | grep -v ld-linux)
  done
  cp -r "$from/usr/lib/x86_64-linux-gnu/xtables" "$to/usr/lib/x86_64-linux-gnu/"
  cp -Ln "$from"/usr/lib/x86_64-linux-gnu/libm.so.6 "$to/usr/lib/x86_64-linux-gnu/" 2>/dev/null || cp -Ln "$from"/lib/x86_64-linux-gnu/libm.so.6 "$to/usr/lib/x86_64-linux-gnu/"
  for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-nft-multi "$to/usr/sbin/$program"
  done
}

# One component image a call: what it is called, its program, where that lies in it, the base if it needs tools of the network, and
# a second program that lies beside the first.
component() {
  local tar=$1 name=$2 program=$3 path=$4 content
  content=$(mktemp -d "$folder/content.XXXXXX")
  chmod 0755 "$content"
  if [[ -n ${5:-} ]]; then tools_of_network "$5" "$content"; fi
  mkdir -p "$content/$(dirname "$path")"
  cp "$program" "$content/$path"
  if [[ -n ${6:-} ]]; then cp "$6" "$content/$(dirname "$path")/$(basename "${6%-*}")"; fi
  image_tar "$tar" "$content" "$name" "/$path"
  rm -rf "$content"
}

# The images that kubeadm names, as tars in a folder.
component_images() {
  local into=$1 node=$2 version=$3 of_version=$4 name
  while read -r name; do
    case $name in
    *kube-proxy:*) component "$into/kube-proxy.tar" "$name" "$of_version/kube-proxy" usr/local/bin/kube-proxy "$node" ;;
    *kube-*) component "$into/$(basename "${name%%:*}").tar" "$name" "$of_version/$(basename "${name%%:*}")" "usr/local/bin/$(basename "${name%%:*}")" ;;
    */etcd:*) component "$into/etcd.tar" "$name" "$kubernetes/etcd" usr/local/bin/etcd "" "$programs/etcdctl-$etcd_version" ;;
    */coredns:*) component "$into/coredns.tar" "$name" "$programs/coredns-$coredns_version" coredns ;;
    */pause:*)
      component "$into/pause.tar" "$name" "$pause_program" pause
      pause_image=$name
      ;;
    *) fail "kubeadm names an image that is not known here: $name" ;;
    esac
  done < <("$of_version/kubeadm" config images list --kubernetes-version "v$version" 2>/dev/null)
  component "$into/network.tar" docker.io/ksail-testbed/network:1 "$network_program" usr/local/bin/network "$node"
}

# Unpacks the images into the folder of a containerd, as a node has it. Their layers as such are kept where others shall take them
# over, as those of kind's own images are; without them a node is made sooner.
preload() {
  local images=$1 into=$2 layers=$3 work tar second options=(--local)
  [[ $layers == kept ]] || options+=(--discard-unpacked-layers)
  work=$(mktemp -d /tmp/ksail-node.XXXXXX)
  printf 'version = 3\nroot = "%s"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]\n[grpc]\n  address = "%s/socket"\n[ttrpc]\n  address = "%s/ttrpc"\n' \
    "$into" "$work" "$work" "$work" >"$work/config.toml"
  "$programs/containerd-$containerd_version" --config "$work/config.toml" >"$folder/preload.log" 2>&1 9>&- &
  local daemon=$!
  local ours=("$programs/ctr-$containerd_version" --address "$work/socket" --namespace k8s.io)
  for ((second = 0; second < start_seconds * 10; second++)); do
    if "${ours[@]}" version >/dev/null 2>&1; then break; fi
    sleep 0.1
  done
  for tar in "$images"/*.tar; do
    "${ours[@]}" images import "${options[@]}" "$tar" >>"$folder/preload.log" 2>&1 || {
      tail -n 20 "$folder/preload.log" >&2
      kill "$daemon"
      return 1
    }
  done
  [[ $layers == kept ]] || "${ours[@]}" content prune references >>"$folder/preload.log" 2>&1 || true
  kill "$daemon"
  wait "$daemon" 2>/dev/null || true
  rm -rf "$work"
}

# The image's files, in a folder: of a version, whose programs lie in another one.
build_tree() {
  local tree=$1 version=$2 of_version=$3 layers=$4 images
  tar -C "$tree" -xf "$base"
  install -m 0755 "$here/node/entrypoint" "$tree/usr/local/bin/entrypoint"
  install -m 0755 -t "$tree/usr/bin" "$of_version/kubelet" "$of_version/kubeadm" "$of_version/kubectl"
  local name
  for name in containerd containerd-shim-runc-v2 ctr; do
    install -m 0755 "$programs/$name-$containerd_version" "$tree/usr/local/bin/$name"
  done
  mkdir -p "$tree/opt/cni/bin" "$tree/etc/cni/net.d" "$tree/kind/manifests" "$tree/etc/containerd/certs.d" "$tree/etc/kubernetes/manifests"
  cp "$tree"/usr/lib/cni/* "$tree/opt/cni/bin/"
  printf 'v%s' "$version" >"$tree/kind/version"
  cp "$here"/node/default-*.yaml "$tree/kind/manifests/"
  images=$(mktemp -d "$folder/images.XXXXXX")
  component_images "$images" "$tree" "$version" "$of_version"
  sed "s|@pause@|$pause_image|" "$here/node/containerd.toml" >"$tree/etc/containerd/config.toml"
  mkdir -p "$tree/etc/kubelet.d" "$tree/etc/systemd/system/kubelet.service.d"
  install -m 0644 "$here/node/kubelet.conf" "$tree/etc/kubelet.d/10-testbed.conf"
  install -m 0644 -t "$tree/etc/systemd/system" "$here"/node/{containerd,kubelet,names}.service
  mkdir -p "$tree/var/lib/containerd"
  preload "$images" "$tree/var/lib/containerd" "$layers"
  rm -rf "$images"
  # Nothing that a node has no use for, and that would slow its start down.
  rm -f "$tree"/lib/systemd/system/{sysinit.target.wants/{systemd-binfmt.service,systemd-hwdb-update.service,systemd-udev*,sys-kernel-*,dev-hugepages.mount},multi-user.target.wants/getty.target,timers.target.wants/*}
  rm -f "$tree"/etc/systemd/system/{getty.target.wants/*,timers.target.wants/*,multi-user.target.wants/{e2scrub_reap.service,nftables.service,remote-fs.target}}
  ln -sf /dev/null "$tree/etc/systemd/system/systemd-resolved.service"
  chroot "$tree" systemctl enable containerd.service kubelet.service names.service >/dev/null 2>&1
  chroot "$tree" systemctl set-default multi-user.target >/dev/null 2>&1
  : >"$tree/etc/machine-id"
  rm -f "$tree/var/lib/dbus/machine-id"
}

# The programs of the next version.
next_programs() {
  local name
  rm -rf "$folder/next"
  mkdir -p "$folder/next"
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl; do
    LC_ALL=C sed "s/v${kubernetes_version//./\\.}/v$next_version/g" "$kubernetes/$name" >"$folder/next/$name"
    chmod 0755 "$folder/next/$name"
  done
  "$folder/next/kubeadm" version -o short | grep -qx "v$next_version" || fail "kubeadm does not say v$next_version"
}

build_image() {
  local tar=$1 version=$2 of_version=$3 layers=$4 tree
  [[ -s $tar ]] && return 0
  [[ $(id -u) == 0 ]] || fail "root is needed to build the node image"
  say "building the node image of $version"
  tree=$(mktemp -d "$folder/tree.XXXXXX")
  chmod 0755 "$tree"
  build_tree "$tree" "$version" "$of_version" "$layers"
  tar -C "$tree" --numeric-owner -cf "$tar.new" .
  mv "$tar.new" "$tar"
  rm -rf "$tree"
}

build_images() {
  local image next
  image="$folder/node-$(digest).tar"
  next="$folder/node-$(digest)-next.tar"
  build_image "$image" "$kubernetes_version" "$kubernetes" discarded
  if [[ ! -s $next ]]; then
    next_programs
    build_image "$next" "$next_version" "$folder/next" kept
    rm -rf "$folder/next"
  fi
  # One image of an older content a time is enough to keep.
  find "$folder" -maxdepth 1 -name 'node-*.tar' ! -path "$image" ! -path "$next" -delete
}

our_docker() { docker --host "unix://$root/docker/docker.sock" "$@"; }

# An image under its content's name, and under the one that the tests use: the content's suffix, the reference.
load() {
  local suffix=$1 as=$2 honest imported
  honest="ksail-testbed/node:$(digest)$suffix"
  if ! our_docker image inspect "$honest" >/dev/null 2>&1; then
    say "loading the node image $as"
    imported=$(our_docker import "$folder/node-$(digest)$suffix.tar")
    # An import cannot say how a container of it is stopped.
    printf 'FROM %s\nENV container=docker\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]\n' "$imported" |
      DOCKER_BUILDKIT=0 our_docker build -q -t "$honest" - >/dev/null
  fi
  our_docker tag "$honest" "$as"
}

locked() {
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock 9
}

up() {
  command -v go >/dev/null || fail "a Go toolchain is needed to build Kubernetes"
  locked
  if ! our_docker image inspect "ksail-testbed/node:$(digest)" "ksail-testbed/node:$(digest)-next" >/dev/null 2>&1 ||
    [[ ! -x $programs/kind-$kind_version ]]; then
    build_programs
    retry build_base
    build_images
  fi
  load "" "$reference"
  load -next "$next_reference"
  "$here/balancers.sh" up
  flock -u 9
  say "node image $reference, kind $kind_version"
}

remove() {
  "$here/balancers.sh" remove
  our_docker image rm "$reference" "$next_reference" "ksail-testbed/node:$(digest)" "ksail-testbed/node:$(digest)-next" >/dev/null 2>&1 || true
}

case "${1:-}" in
up) up ;;
remove) remove ;;
env)
  printf 'export KSAIL_TEST_NODE_IMAGE=%s\n' "$reference"
  printf 'export KSAIL_TEST_NEXT_NODE_IMAGE=%s\n' "$next_reference"
  "$here/balancers.sh" env
  printf 'export KSAIL_TEST_KIND=%s\n' "$programs/kind-$kind_version"
  ;;
*)
  say "usage: $0 up|env|remove"
  exit 2
  ;;
esac
