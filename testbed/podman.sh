#!/usr/bin/env bash
# A real Podman for the tests, from nothing on Debian 12 as root: `up`, `down`, `env`.
#
#   testbed/podman.sh up            installs what is missing, starts a `podman system service` of our own, makes the registry image
#   eval "$(testbed/podman.sh env)" sets KSAIL_TEST_PODMAN_HOST for the tests
#   testbed/podman.sh node-image    loads the node image of the engine of testbed/docker.sh too, for clusters on Podman
#   testbed/podman.sh down          stops it and its containers; what is cached stays
#
# All of it lives in $KSAIL_TESTBED (~/.cache/ksail-testbed by default): images, containers, networks, locks and settings. Another Podman on
# the machine is neither used nor changed.
set -euo pipefail

folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}"
engine="$folder/podman"
socket="$engine/podman.sock"
pidfile="$engine/podman.pid"
log="$engine/service.log"
docker_socket="$folder/docker/docker.sock"
runtime="$engine/runc-testbed"
# How often an apt call is tried, and how long the service may take to answer or to stop, in seconds.
readonly tries=4 start_seconds=60 stop_seconds=40
# How many processes a container's user may have.
readonly processes=16384
# What testbed/node-image.sh makes on the other engine.
readonly node="kindest/node:v1.36.3" balancer="ksail-testbed/haproxy:2"
# The node image for Podman has the name that the product declares; a label tells what it was made of.
readonly podmans_node="docker.io/$node"

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=testbed/engines.sh
source "$(dirname "${BASH_SOURCE[0]}")/engines.sh"

# crun starts nothing where both versions of cgroups are mounted, so it is runc.
install_missing() {
  local missing=()
  command -v podman >/dev/null || missing+=(podman)
  command -v runc >/dev/null || missing+=(runc)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v docker-registry >/dev/null || missing+=(docker-registry)
  [[ -x /usr/lib/podman/netavark ]] || missing+=(netavark)
  [[ -x /usr/lib/podman/aardvark-dns ]] || missing+=(aardvark-dns)
  install_packages "${missing[@]}"
}

our_podman() { podman --url "unix://$socket" "$@"; }

answers() { [[ -S $socket ]] && our_podman version >/dev/null 2>&1; }

# The pid of our service, if it runs; a pid that another program got since is not ours.
running_pid() {
  local pid
  [[ -s $pidfile ]] || return 1
  pid=$(<"$pidfile")
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "system service --time 0 unix://$socket" || return 1
  printf '%s' "$pid"
}

# Writes a file of settings where it says something else.
setting() {
  local file=$1 text
  text=$(cat)
  [[ $(cat "$file" 2>/dev/null) == "$text" ]] || printf '%s\n' "$text" >"$file"
}

# The engine's own settings, without a word of the machine's. Locks are in files: those in memory are the machine's, whoever uses them.
configure() {
  local name=runc program=/usr/sbin/runc
  if ! may_have_sys_resource; then
    # Where cgroups are of version 1, this Podman gives containers none of their own, whatever its API is told; it does where they are of
    # version 2, as they are almost everywhere.
    local cgroups='s/"namespaces":\[/&{"type":"cgroup"},/'
    if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then cgroups=; fi
    write_runtime "$runtime" "$cgroups"
    name=testbed program=$runtime
  fi
  setting "$engine/containers.conf" <<TOML
[containers]
# No more than the service may have itself: more can only be given by who may raise limits.
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=$processes:$processes"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "$name"
static_dir = "$engine/data/libpod"
volume_path = "$engine/data/volumes"
tmp_dir = "$engine/run/libpod"
[engine.runtimes]
$name = ["$program"]
[network]
network_backend = "netavark"
network_config_dir = "$engine/networks"
# Its default network is apart from that of another Podman, and others are small, so that many tests at once do not run out of subnets.
default_subnet = "10.215.0.0/24"
default_subnet_pools = [{base = "10.214.0.0/16", size = 24}]
TOML
  setting "$engine/storage.conf" <<TOML
[storage]
driver = "${KSAIL_TESTBED_STORAGE_DRIVER:-overlay}"
graphroot = "$engine/data"
runroot = "$engine/run/storage"
TOML
  # Docker speaks plain HTTP with what listens on this machine, Podman does where it is told. The tests' own registries do.
  setting "$engine/registries.conf" <<'TOML'
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "localhost"
insecure = true
[[registry]]
location = "127.0.0.1"
insecure = true
TOML
}

start_engine() {
  local second pid
  configure
  if answers; then return 0; fi
  if pid=$(running_pid); then
    say "podman (pid $pid) does not answer, stopping it"
    stop_service
  fi
  [[ $(id -u) == 0 ]] || fail "root is needed to start podman as root"
  rm -f "$socket"
  # Nothing of the caller stays open in the daemon: neither its streams nor the lock.
  CONTAINERS_CONF="$engine/containers.conf" CONTAINERS_STORAGE_CONF="$engine/storage.conf" \
    CONTAINERS_REGISTRIES_CONF="$engine/registries.conf" \
    setsid podman system service --time 0 "unix://$socket" >"$log" 2>&1 </dev/null 9>&- &
  local started=$!
  printf '%s' "$started" >"$pidfile"
  for ((second = 0; second < start_seconds * 4; second++)); do
    if answers; then return 0; fi
    if ! kill -0 "$started" 2>/dev/null; then break; fi
    sleep 0.25
  done
  tail -n 20 "$log" >&2
  fail "podman does not answer on $socket; its log is $log"
}

stop_service() {
  local pid
  pid=$(running_pid) || return 0
  kill "$pid"
  ended "$pid" "podman"
}

make_registry_image() {
  local honest tar
  honest="docker.io/ksail-testbed/registry:$(registry_version)"
  if ! our_podman image exists "$honest"; then
    tar=$(registry_tar)
    our_podman import --quiet \
      --change 'ENTRYPOINT ["/bin/registry"]' --change 'CMD ["serve", "/etc/docker/registry/config.yml"]' \
      --change 'EXPOSE 5000' --change 'VOLUME ["/var/lib/registry"]' "$tar" "$honest" >/dev/null
  fi
  our_podman tag "$honest" "$registry_reference"
}

up() {
  mkdir -p "$engine"
  exec 9>"$folder/podman.lock"
  flock 9
  install_missing
  start_engine
  make_registry_image
  # Where the other engine has it.
  if [[ -S $docker_socket ]]; then take_over "$balancer" || true; fi
  flock -u 9
  say "Podman $(our_podman version --format '{{.Server.Version}}') on unix://$socket"
}

# Loads an image as the other engine has it.
take_over() {
  our_podman image exists "docker.io/$1" && return 0
  docker --host "unix://$docker_socket" image inspect "$1" >/dev/null 2>&1 || return 1
  docker --host "unix://$docker_socket" save "$1" | our_podman load --quiet >/dev/null
  # What is loaded without the name of a registry is this machine's to Podman.
  our_podman tag "localhost/$1" "docker.io/$1"
  our_podman untag "localhost/$1" "localhost/$1"
}

# The node image, for which the names that the engine knows are asked of Podman's resolver: it answers on the network, Docker's on loopback.
node_image() {
  local names=/etc/systemd/system/names.service unit container made_of
  made_of=$(docker --host "unix://$docker_socket" image inspect --format '{{.Id}}' "$node") ||
    fail "the engine of testbed/docker.sh does not have $node"
  [[ $(our_podman image inspect --format '{{index .Labels "testbed"}}' "$podmans_node" 2>/dev/null) == "$made_of" ]] && return 0
  our_podman untag "$podmans_node" 2>/dev/null || true
  take_over "$node" || fail "the engine of testbed/docker.sh does not have $node"
  unit=$(mktemp -d)
  container=$(our_podman create "docker.io/$node")
  our_podman cp "$container:$names" "$unit/names.service"
  # shellcheck disable=SC2016 # It is the machine's shell that asks.
  sed -i 's|127\.0\.0\.11:53|$(sed -n "s/^nameserver //p" /etc/resolv.conf \| head -n 1):53|' "$unit/names.service"
  our_podman cp "$unit/names.service" "$container:$names"
  our_podman commit --quiet --change "LABEL testbed=$made_of" "$container" "$podmans_node" >/dev/null
  our_podman rm --volumes --force "$container" >/dev/null
  rm -rf "$unit"
}

down() {
  [[ -d $folder ]] || return 0
  exec 9>"$folder/podman.lock"
  flock 9
  # Its containers do not end with it.
  if answers; then our_podman rm --all --force >/dev/null 2>&1 || true; fi
  stop_service
}

case "${1:-}" in
up) up ;;
down) down ;;
node-image) node_image ;;
env) printf 'export KSAIL_TEST_PODMAN_HOST=unix://%s\n' "$socket" ;;
*)
  say "usage: $0 up|down|node-image|env"
  exit 2
  ;;
esac
