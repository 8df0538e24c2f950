#!/usr/bin/env bash
# A real Docker Engine for the tests, from nothing on Debian 12 as root: `up`, `down`, `env`.
#
#   testbed/docker.sh up            installs what is missing, starts a dockerd of our own, makes the registry image
#   eval "$(testbed/docker.sh env)" sets KSAIL_TEST_DOCKER_HOST for the tests
#   testbed/docker.sh down          stops it; what is cached stays
#
# All of it lives in $KSAIL_TESTBED (~/.cache/ksail-testbed by default), so that the second `up` takes seconds. The
# engine is our own: another one on the machine is neither used nor changed.
set -euo pipefail

folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}"
engine="$folder/docker"
socket="$engine/docker.sock"
pidfile="$engine/docker.pid"
log="$engine/dockerd.log"
runtime="$engine/runc-testbed"
# How often an apt call is tried, and how long the engine may take to answer or to stop, in seconds.
readonly tries=4 start_seconds=60 stop_seconds=40
# How many things may be watched for at once, over all containers.
readonly watchers=1024

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=testbed/engines.sh
source "$(dirname "${BASH_SOURCE[0]}")/engines.sh"

install_missing() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v docker >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v docker-registry >/dev/null || missing+=(docker-registry)
  install_packages "${missing[@]}"
}

our_docker() { docker --host "unix://$socket" "$@"; }

answers() { [[ -S $socket ]] && our_docker version --format '{{.Server.APIVersion}}' >/dev/null 2>&1; }

# The pid of our dockerd, if it runs; a pid that another program got since is not ours.
running_pid() {
  local pid
  [[ -s $pidfile ]] || return 1
  pid=$(<"$pidfile")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] || return 1
  printf '%s' "$pid"
}

# The engine's own settings.
configure() {
  local settings='{}'
  if ! may_have_sys_resource; then
    write_runtime "$runtime"
    settings=$(printf '{"default-runtime": "testbed", "runtimes": {"testbed": {"path": "%s"}}}' "$runtime")
  fi
  [[ $(cat "$engine/daemon.json" 2>/dev/null) == "$settings" ]] || printf '%s\n' "$settings" >"$engine/daemon.json"
}

start_engine() {
  local second pid
  configure
  if answers; then return 0; fi
  if pid=$(running_pid); then
    say "dockerd (pid $pid) does not answer, stopping it"
    stop_engine
  fi
  [[ $(id -u) == 0 ]] || fail "root is needed to start dockerd"
  rm -f "$pidfile"
  local arguments=(
    --config-file "$engine/daemon.json"
    --data-root "$engine/data" --exec-root "$engine/exec" --pidfile "$pidfile" --host "unix://$socket"
    # Small networks, so that many tests at once do not run out of subnets.
    --default-address-pool "base=10.213.0.0/16,size=24"
  )
  # Left out, dockerd takes the best that works on this file system (overlay2, else vfs).
  if [[ -n ${KSAIL_TESTBED_STORAGE_DRIVER:-} ]]; then
    arguments+=(--storage-driver "$KSAIL_TESTBED_STORAGE_DRIVER")
  fi
  # Nothing of the caller stays open in the daemon: neither its streams nor the lock.
  setsid dockerd "${arguments[@]}" >"$log" 2>&1 </dev/null 9>&- &
  local started=$!
  for ((second = 0; second < start_seconds * 4; second++)); do
    if answers; then return 0; fi
    if ! kill -0 "$started" 2>/dev/null; then break; fi
    sleep 0.25
  done
  tail -n 20 "$log" >&2
  fail "dockerd does not answer on $socket; its log is $log"
}

stop_engine() {
  local pid
  pid=$(running_pid) || return 0
  kill "$pid"
  ended "$pid" "dockerd"
}

make_registry_image() {
  local honest tar
  honest="ksail-testbed/registry:$(registry_version)"
  if ! our_docker image inspect "$honest" >/dev/null 2>&1; then
    tar=$(registry_tar)
    our_docker import \
      -c 'ENTRYPOINT ["/bin/registry"]' -c 'CMD ["serve", "/etc/docker/registry/config.yml"]' \
      -c 'EXPOSE 5000' -c 'VOLUME ["/var/lib/registry"]' "$tar" "$honest" >/dev/null
  fi
  our_docker tag "$honest" "$registry_reference"
}

# The kernel counts what the kubelets and systemds of all nodes watch together; its own limit is too low for more than a few.
raise_limits() {
  local limit=/proc/sys/fs/inotify/max_user_instances
  if (($(cat "$limit") < watchers)); then echo "$watchers" >"$limit" || say "cannot raise $limit: many nodes may not start"; fi
}

up() {
  mkdir -p "$engine"
  exec 9>"$folder/docker.lock"
  flock 9
  install_missing
  raise_limits
  start_engine
  make_registry_image
  flock -u 9
  say "$(our_docker version --format 'Docker Engine {{.Server.Version}} (API {{.Server.APIVersion}})') on unix://$socket"
}

down() {
  [[ -d $folder ]] || return 0
  exec 9>"$folder/docker.lock"
  flock 9
  stop_engine
}

case "${1:-}" in
up) up ;;
down) down ;;
env) printf 'export KSAIL_TEST_DOCKER_HOST=unix://%s\n' "$socket" ;;
*)
  say "usage: $0 up|down|env"
  exit 2
  ;;
esac
