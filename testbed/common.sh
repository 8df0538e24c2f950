# What the scripts of the test bed share; sourced by them. How often `retry` tries is the sourcing script's `tries`.
# shellcheck shell=bash

say() { printf 'testbed: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# Installs packages of Debian. What apt says is in $folder/apt.log, and its end is told where it fails.
apt_install() {
  # shellcheck disable=SC2154 # It is the sourcing script's.
  if DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 update >"$folder/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >>"$folder/apt.log" 2>&1; then
    return 0
  fi
  tail -n 20 "$folder/apt.log" >&2
  return 1
}

# Installs packages of which something is missing: as root, with more tries than one.
install_packages() {
  if (($# == 0)); then return 0; fi
  [[ $(id -u) == 0 ]] || fail "root is needed to install $*"
  say "installing $*"
  retry apt_install "$@"
}

# Waits for the end of a process that was told to end. Arguments: its pid, and what it is called.
ended() {
  local tenth
  # shellcheck disable=SC2154 # It is the sourcing script's.
  for ((tenth = 0; tenth < stop_seconds * 10; tenth++)); do
    if ! kill -0 "$1" 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  fail "$2 (pid $1) did not stop within $stop_seconds s"
}

# Runs a command until it succeeds, with longer and longer pauses.
retry() {
  local try
  # shellcheck disable=SC2154 # It is the sourcing script's.
  for ((try = 1; try <= tries; try++)); do
    if "$@"; then return 0; fi
    say "try $try of $tries failed: $*"
    sleep $((try * 3))
  done
  return 1
}
