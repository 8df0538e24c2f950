#!/usr/bin/env bash
# A real rootless Docker for the tests, from nothing on Debian 12: `up`, `down`, `env`. Root makes the user that it runs as, and nothing else.
#
#   testbed/rootless.sh up            installs what is missing, starts dockerd-rootless.sh of a user of its own, makes the registry image
#   eval "$(testbed/rootless.sh env)" sets KSAIL_TEST_DOCKER_HOST: the provider's tests run on it instead of the other engine
#   testbed/rootless.sh down          stops it; what is cached stays
set -euo pipefail

folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}"
readonly user=ksail-rootless
home="/home/$user"
run="/run/$user"
socket="$run/docker.sock"
pidfile="$run/rootlesskit.pid"
log="$run/dockerd.log"
# How often an apt call is tried, and how long the engine may take to answer or to stop, in seconds.
readonly tries=4 start_seconds=60 stop_seconds=40
readonly script=/usr/share/docker.io/contrib/dockerd-rootless.sh

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=testbed/engines.sh
source "$(dirname "${BASH_SOURCE[0]}")/engines.sh"

install_missing() {
  local missing=()
  command -v dockerd >/dev/null && [[ -e $script ]] || missing+=(docker.io)
  command -v docker >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v docker-registry >/dev/null || missing+=(docker-registry)
  command -v newuidmap >/dev/null || missing+=(uidmap)
  command -v slirp4netns >/dev/null || missing+=(slirp4netns)
  command -v rootlesskit >/dev/null || missing+=(rootlesskit)
  install_packages "${missing[@]}"
}

our_docker() { docker --host "unix://$socket" "$@"; }

answers() { [[ -S $socket ]] && our_docker version --format '{{.Server.APIVersion}}' >/dev/null 2>&1; }

# The pid of what holds the engine's namespaces, if it runs; a pid that another program got since is not ours.
running_pid() {
  local pid
  [[ -s $pidfile ]] || return 1
  pid=$(<"$pidfile")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == rootlesskit ]] || return 1
  printf '%s' "$pid"
}

make_user() {
  id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
  install -d -m 0700 -o "$user" -g "$user" "$run"
  # As udev has it on a machine that is no sandbox: whoever may have a network namespace may have an interface in it.
  [[ ! -c /dev/net/tun ]] || chmod 0666 /dev/net/tun
}

start_engine() {
  local second
  if answers; then return 0; fi
  stop_engine
  rm -f "$socket" "$pidfile"
  # A shell that becomes the script, which becomes rootlesskit: one pid for all three.
  # shellcheck disable=SC2016 # It is that shell's own pid.
  setsid setpriv --reuid "$user" --regid "$user" --init-groups env -i HOME="$home" XDG_RUNTIME_DIR="$run" \
    PATH=/usr/sbin:/sbin:/usr/bin:/bin PIDFILE="$pidfile" SCRIPT="$script" \
    bash -c 'echo $$ >"$PIDFILE"; cd "$HOME"; exec "$SCRIPT" --default-address-pool base=10.216.0.0/16,size=24' \
    >"$log" 2>&1 </dev/null 9>&- &
  for ((second = 0; second < start_seconds * 4; second++)); do
    if answers; then return 0; fi
    sleep 0.25
    if ((second > 8)) && ! running_pid >/dev/null; then break; fi
  done
  tail -n 20 "$log" >&2
  fail "rootless dockerd does not answer on $socket; its log is $log"
}

stop_engine() {
  local pid
  pid=$(running_pid) || return 0
  kill "$pid"
  ended "$pid" "rootless dockerd"
}

make_registry_image() {
  local tar
  if our_docker image inspect "$registry_reference" >/dev/null 2>&1; then return 0; fi
  tar=$(registry_tar)
  our_docker import \
    -c 'ENTRYPOINT ["/bin/registry"]' -c 'CMD ["serve", "/etc/docker/registry/config.yml"]' \
    -c 'EXPOSE 5000' -c 'VOLUME ["/var/lib/registry"]' - "$registry_reference" <"$tar" >/dev/null
}

up() {
  [[ $(id -u) == 0 ]] || fail "root is needed to make the user $user"
  mkdir -p "$folder"
  exec 9>"$folder/rootless.lock"
  flock 9
  install_missing
  make_user
  start_engine
  make_registry_image
  flock -u 9
  say "rootless Docker $(our_docker version --format '{{.Server.Version}} (API {{.Server.APIVersion}})') on unix://$socket"
}

down() {
  [[ -d $folder ]] || return 0
  exec 9>"$folder/rootless.lock"
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
