#!/usr/bin/env bash
# Real stores for the tests of shared state, from nothing on Debian 12: `up`, `down`, `env`.
#
#   testbed/state.sh up             an S3 server (moto) and a PostgreSQL of our own, on free ports of this machine
#   eval "$(testbed/state.sh env)"  sets KSAIL_TEST_S3_ENDPOINT and KSAIL_TEST_POSTGRES_URL for the tests
#   testbed/state.sh down           stops both; what is cached stays
#
# All of it lives in $KSAIL_TESTBED (~/.cache/ksail-testbed by default), so that the second `up` takes seconds. Other
# servers on the machine are neither used nor changed.
set -euo pipefail

folder="${KSAIL_TESTBED:-$HOME/.cache/ksail-testbed}/state"
venv="$folder/venv"
data="$folder/postgres"
# How often a download is tried, and how long a server may take to answer or to stop, in seconds.
readonly tries=4 start_seconds=60 stop_seconds=20
# The S3 server honours If-None-Match and If-Match from this version on.
readonly moto_version="5.2.0"
# Who runs PostgreSQL: it refuses to be root.
readonly postgres_user="postgres"

# shellcheck source=testbed/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

free_port() {
  "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# The pid in a file, if it is still the program that was started.
running() {
  local pid
  [[ -s $1 ]] || return 1
  pid=$(<"$1")
  grep -qa -- "$2" "/proc/$pid/cmdline" 2>/dev/null || return 1
  printf '%s' "$pid"
}

stop() {
  local pid
  pid=$(running "$1" "$2") || return 0
  kill "${3:--TERM}" "$pid"
  ended "$pid" "$2"
}

install_moto() {
  [[ -f $venv/moto-$moto_version ]] && return 0
  say "installing moto"
  [[ -x $venv/bin/pip ]] || python3 -m venv "$venv"
  retry "$venv/bin/pip" install --quiet --disable-pip-version-check "moto[s3,server]>=$moto_version"
  touch "$venv/moto-$moto_version"
}

moto_answers() { [[ -s $folder/moto.port ]] && (: <"/dev/tcp/127.0.0.1/$(<"$folder/moto.port")") 2>/dev/null; }

start_moto() {
  local second
  if running "$folder/moto.pid" moto_server >/dev/null && moto_answers; then return 0; fi
  free_port >"$folder/moto.port"
  # Nothing of the caller stays open in the server: neither its streams nor the lock.
  setsid "$venv/bin/moto_server" -H 127.0.0.1 -p "$(<"$folder/moto.port")" >"$folder/moto.log" 2>&1 </dev/null 9>&- &
  printf '%s' "$!" >"$folder/moto.pid"
  for ((second = 0; second < start_seconds * 4; second++)); do
    if moto_answers; then return 0; fi
    sleep 0.25
  done
  tail -n 20 "$folder/moto.log" >&2
  fail "the S3 server does not answer"
}

install_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return 0
  [[ $(id -u) == 0 ]] || fail "root is needed to install postgresql"
  say "installing postgresql"
  # No cluster of Debian's own is wanted.
  retry apt_install postgresql
}

# PostgreSQL refuses to be root, and its folder must be reachable for who it is.
as_postgres() {
  if [[ $(id -u) == 0 ]]; then
    setpriv --reuid "$postgres_user" --regid "$postgres_user" --init-groups -- env HOME=/tmp "$@"
  else
    "$@"
  fi
}

# A folder below root's home cannot be reached by another user: the server's own lies elsewhere then, one for each testbed.
postgres_home() {
  if [[ $(id -u) == 0 ]]; then
    printf '/var/tmp/ksail-testbed-postgres-%s' "$(cksum <<<"$folder" | cut -d ' ' -f 1)"
  else
    printf '%s' "$data"
  fi
}

postgres_bin() {
  local found
  found=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
  printf '%s' "$found"
}

postgres_answers() {
  [[ -s $folder/postgres.port ]] &&
    "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(<"$folder/postgres.port")"
}

start_postgres() {
  local home bin second port
  home=$(postgres_home)
  bin=$(postgres_bin)
  if postgres_answers; then return 0; fi
  if [[ ! -s $home/data/PG_VERSION ]]; then
    rm -rf "$home"
    mkdir -p "$home"
    chmod 0700 "$home"
    if [[ $(id -u) == 0 ]]; then chown "$postgres_user:$postgres_user" "$home"; fi
    printf 'ksail-test' >"$folder/password"
    chmod 0644 "$folder/password"
    cp "$folder/password" "$home/password"
    if [[ $(id -u) == 0 ]]; then chown "$postgres_user" "$home/password"; fi
    as_postgres "$bin/initdb" -D "$home/data" -U ksail --pwfile="$home/password" -A scram-sha-256 -E UTF8 \
      --locale=C >"$folder/initdb.log" 2>&1 || {
      tail -n 20 "$folder/initdb.log" >&2
      fail "initdb failed"
    }
  fi
  port=$(free_port)
  printf '%s' "$port" >"$folder/postgres.port"
  as_postgres setsid "$bin/postgres" -D "$home/data" -h 127.0.0.1 -p "$port" -k "$home" -c max_connections=200 \
    -c shared_buffers=64MB >"$folder/postgres.log" 2>&1 </dev/null 9>&- &
  for ((second = 0; second < start_seconds * 4; second++)); do
    if postgres_answers; then return 0; fi
    sleep 0.25
  done
  tail -n 20 "$folder/postgres.log" >&2
  fail "PostgreSQL does not answer"
}

stop_postgres() {
  local home pid
  home=$(postgres_home)
  [[ -s $home/data/postmaster.pid ]] || return 0
  pid=$(head -n 1 "$home/data/postmaster.pid")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == postgres ]] || return 0
  # Fast: sessions are ended, all is written.
  kill -INT "$pid"
  ended "$pid" PostgreSQL
}

locked() {
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock 9
}

up() {
  locked
  install_moto
  install_postgres
  start_moto
  start_postgres
  flock -u 9
  say "S3 on 127.0.0.1:$(<"$folder/moto.port"), $("$(postgres_bin)/postgres" --version) on 127.0.0.1:$(<"$folder/postgres.port")"
}

down() {
  [[ -d $folder ]] || return 0
  locked
  stop "$folder/moto.pid" moto_server
  stop_postgres
}

environment() {
  printf 'export KSAIL_TEST_S3_ENDPOINT=http://127.0.0.1:%s\n' "$(<"$folder/moto.port")"
  printf 'export KSAIL_TEST_POSTGRES_URL=postgres://ksail:ksail-test@127.0.0.1:%s/postgres\n' "$(<"$folder/postgres.port")"
}

case "${1:-}" in
up) up ;;
down) down ;;
env) environment ;;
*)
  say "usage: $0 up|down|env"
  exit 2
  ;;
esac
