#!/bin/sh
# Tells kubeadm otherwise on a node that goes on, or puts back what was before. It is given, as variables:
#   name           the node
#   act            change, or put_back
#   given          the folder with what is to be: kubeadm.conf, labels, files, arguments of the kubelet (and arguments.gone, those that are not
#                  what they were); what was: former.conf, former.labels; and what is said of it from then on: whose, own.conf
#   kept           the folder where what was before is kept until what comes after it serves
#   config         where kubeadm's configuration lies
#   kubectl        the client of the machine's own API server
#   parts          what changes, as words: certificate, control-plane, etcd, kubelet, proxy, dns; told, where the cluster is told of it;
#                  joined, where the machine reads in the cluster what all are told
#   paths, again   files that are written before, and the program that reads them
#   comes_up_seconds, goes_on_seconds
# shellcheck disable=SC2154,SC2317
set -u

manifests=/etc/kubernetes/manifests
kubelet=/var/lib/kubelet
# In the order in which they can end: an API server without etcd waits for it.
programs="kube-scheduler kube-controller-manager kube-apiserver etcd"

has() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }

own_kubectl() { kubectl --kubeconfig=/etc/kubernetes/kubelet.conf --request-timeout=20s "$@"; }

# The container of a program that runs.
running() {
  ctr --namespace=k8s.io containers list --quiet "labels.\"io.kubernetes.container.name\"==$1" 2>/dev/null | while read -r id; do
    if ctr --namespace=k8s.io tasks list 2>/dev/null | grep -q "^$id .*RUNNING"; then echo "$id"; fi
  done
}

# The newest log of a program.
# shellcheck disable=SC2012 # The newest of some.
newest_log() { ls -t /var/log/pods/kube-system_"$1"-*/"$1"/*.log 2>/dev/null | head -n 1; }

# How often a program was started since a log was its newest.
starts_since() {
  log=$(newest_log "$1")
  number=${log##*/} number=${number%%.*}
  before=-1
  if [ -n "$2" ] && [ "${log%/*}" = "${2%/*}" ]; then before=${2##*/} before=${before%%.*}; fi
  echo $((${number:--1} - before))
}

# Waits until another container of a program than the one before runs, and goes on running. Arguments: the program, that container, its
# log.
comes_up() {
  known='' stable=0 tries=0
  while [ "$tries" -lt "$comes_up_seconds" ]; do
    sleep 1
    tries=$((tries + 1))
    now=$(running "$1")
    if [ -n "$now" ] && [ "$now" != "$2" ]; then
      if [ "$now" = "$known" ]; then stable=$((stable + 1)); else known=$now stable=0; fi
      if [ "$stable" -ge "$goes_on_seconds" ]; then return 0; fi
    else
      stable=0
    fi
    # Its third start has come: it ends again and again.
    if [ "$(starts_since "$1" "$3")" -ge 3 ]; then break; fi
  done
  echo "$1 does not come up with what it is told:"
  log=$(newest_log "$1")
  if [ -n "$log" ]; then cut -d ' ' -f 4- "$log" | grep . | grep -v '^ *-' | tail -n 3 | cut -c 1-300; fi
  return 1
}

answers() {
  tries=0
  until said=$($kubectl get --raw=/readyz --request-timeout=5s 2>&1); do
    tries=$((tries + 1))
    if [ "$tries" -ge "$comes_up_seconds" ]; then echo "its API server does not answer: $said"; return 1; fi
    sleep 1
  done
}

# Ends a container, as a kubelet would.
ends() {
  ctr --namespace=k8s.io tasks kill --signal SIGTERM "$1" 2>/dev/null
  tries=0
  while ctr --namespace=k8s.io tasks list 2>/dev/null | grep -q "^$1 .*RUNNING"; do
    tries=$((tries + 1))
    if [ "$tries" = 20 ]; then ctr --namespace=k8s.io tasks kill --signal SIGKILL "$1" 2>/dev/null; fi
    sleep 1
  done
}

# Does something that changes manifests, and waits for what they change. The kubelet stands still meanwhile: it would take a minute to end
# a pod of etcd or of the API server, for it waits for them to hear of it.
with_manifests() {
  was=$(mktemp -d)
  for program in $programs; do
    if [ -e "$manifests/$program.yaml" ]; then cp "$manifests/$program.yaml" "$was/" && running "$program" >"$was/$program" && newest_log "$program" >"$was/$program.log"; fi
  done
  if ! systemctl stop kubelet || ! "$@"; then return 1; fi
  systemctl reset-failed kubelet 2>/dev/null
  # An API server without its etcd lets whoever asks wait for a minute, the kubelet among them: it starts once more too.
  anew=$again waited=
  if [ -e "$was/etcd.yaml" ] && ! cmp -s "$was/etcd.yaml" "$manifests/etcd.yaml"; then anew=kube-apiserver; fi
  for program in $programs; do
    if [ ! -e "$manifests/$program.yaml" ]; then continue; fi
    if [ "$program" != "$anew" ] && cmp -s "$was/$program.yaml" "$manifests/$program.yaml"; then continue; fi
    waited="$waited $program"
    while read -r id; do ends "$id"; done <"$was/$program"
  done
  systemctl start kubelet || return 1
  for program in $waited; do
    comes_up "$program" "$(cat "$was/$program")" "$(cat "$was/$program.log")" >"$was/$program.said" 2>&1 &
    echo $! >"$was/$program.pid"
  done
  for program in $waited; do
    wait "$(cat "$was/$program.pid")" || { cat "$was/$program.said"; return 1; }
  done
  if [ -n "$waited" ]; then answers || return 1; fi
  rm -rf "$was"
}

# Starts the kubelet after something, and waits until it has reported.
with_kubelet() {
  systemctl stop kubelet || return 1
  systemctl reset-failed kubelet 2>/dev/null
  since=$(date +%s) tries=0
  "$@" || return 1
  systemctl start kubelet || return 1
  while :; do
    beat=$(own_kubectl get node "$name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}' 2>&1) || beat=
    if [ -n "$beat" ] && [ "$(date -d "$beat" +%s)" -ge "$since" ]; then return 0; fi
    tries=$((tries + 1))
    if [ "$tries" -ge "$comes_up_seconds" ] || [ "$(systemctl show kubelet --property=NRestarts --value)" -ge 5 ]; then break; fi
    sleep 1
  done
  echo "the kubelet does not come up with what it is told:"
  journalctl --unit=kubelet --since="@$since" --no-pager --output=cat | grep -i 'err\|fail\|unknown\|invalid' | cut -c 1-400 | tail -n 3
  return 1
}

# What the cluster keeps, and what runs on every node by it.
tell_cluster() {
  kubeadm init phase upload-config all --config="$1" || return 1
  if has dns; then kubeadm init phase addon coredns --config="$1" || return 1; fi
  if has proxy; then
    kubeadm init phase addon kube-proxy --config="$1" || return 1
    $kubectl --namespace=kube-system rollout restart daemonset/kube-proxy || return 1
    $kubectl --namespace=kube-system rollout status daemonset/kube-proxy --timeout="${comes_up_seconds}s" || return 1
  fi
}

relabel() {
  # shellcheck disable=SC2046 # Labels have no blanks.
  if [ -s "$1" ]; then own_kubectl label --overwrite node "$name" $(cat "$1") || return 1; fi
}

put_back() {
  if [ ! -e "$kept/whole" ]; then return 0; fi
  read -r parts <"$kept/parts"
  read -r again <"$kept/again"
  if [ -e "$kept/files" ]; then cp -a "$kept/files/." / || return 1; fi
  if [ -e "$kept/pki" ]; then cp -a "$kept/pki/." /etc/kubernetes/pki/ || return 1; fi
  # The kubelet first: it starts the rest.
  if [ -e "$kept/kubelet" ]; then cp -a "$kept/kubelet/." "$kubelet/" || return 1; fi
  if [ -e "$kept/manifests" ]; then with_manifests cp -a "$kept/manifests/." "$manifests/" || return 1; fi
  if [ -e "$kept/kubelet" ]; then with_kubelet true || return 1; fi
  if [ -e "$kept/told" ]; then tell_cluster "$kept/kubeadm.conf" || return 1; fi
  relabel "$kept/labels" || return 1
  rm "$kept/whole"
  rm -rf "$kept"
}

keep() {
  # What was before a change that was cut off is what is to be kept.
  if [ -e "$kept/whole" ]; then return 0; fi
  rm -rf "$kept"
  mkdir -p "$kept" && chmod 0700 "$kept" || return 1
  echo "$parts" >"$kept/parts"
  echo "$again" >"$kept/again"
  cp "$given/former.conf" "$kept/kubeadm.conf" && cp "$given/former.labels" "$kept/labels" || return 1
  for path in $paths; do
    if [ -e "/$path" ]; then mkdir -p "$kept/files/$(dirname "$path")" && cp -a "/$path" "$kept/files/$path" || return 1; fi
  done
  if [ -e "$manifests/kube-apiserver.yaml" ]; then cp -a "$manifests" "$kept/manifests" || return 1; fi
  if has certificate; then
    mkdir "$kept/pki" && cp -a /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/apiserver.key "$kept/pki/" || return 1
  fi
  if has kubelet; then
    mkdir "$kept/kubelet" && cp -a "$kubelet/config.yaml" "$kubelet/kubeadm-flags.env" "$kept/kubelet/" || return 1
  fi
  sync
  : >"$kept/whole"
}

# What all machines are told, where one reads it in the cluster.
of_cluster() {
  for place in kubeadm-config:ClusterConfiguration kubelet-config:kubelet; do
    printf '\n---\n' >>"$given/kubeadm.conf"
    own_kubectl --namespace=kube-system get configmap "${place%%:*}" --output="jsonpath={.data.${place#*:}}" >>"$given/kubeadm.conf" ||
      return 1
  done
}

write_manifests() {
  if has control-plane; then kubeadm init phase control-plane all --config="$given/kubeadm.conf" >/dev/null || return 1; fi
  if has etcd; then kubeadm init phase etcd local --config="$given/kubeadm.conf" >/dev/null || return 1; fi
}

configure_kubelet() {
  kubeadm upgrade node phase kubelet-config >/dev/null || return 1
  # It reads its own arguments when it is made a node, and no phase of kubeadm writes them later.
  while read -r argument; do
    if [ -n "$argument" ]; then sed -i "s#\([\" ]\)--$argument=[^\" ]*#\1#" "$kubelet/kubeadm-flags.env" || return 1; fi
  done <"$given/arguments.gone"
  arguments=$(tr '\n' ' ' <"$given/arguments")
  if [ -n "$arguments" ]; then sed -i "s#\"\$# $arguments\"#" "$kubelet/kubeadm-flags.env" || return 1; fi
}

change() {
  keep || return 1
  if has joined && { has certificate || has control-plane || has etcd; }; then of_cluster || return 1; fi
  if [ -e "$given/files" ]; then cp -a "$given/files/." / || return 1; fi
  if has certificate; then
    rm -f /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/apiserver.key
    kubeadm init phase certs apiserver --config="$given/kubeadm.conf" || return 1
  fi
  if has control-plane || has etcd || [ -n "$again" ]; then with_manifests write_manifests || return 1; fi
  if has told; then
    : >"$kept/told"
    tell_cluster "$given/kubeadm.conf" || return 1
  fi
  # It reads in the cluster what all are told.
  if has kubelet; then with_kubelet configure_kubelet || return 1; fi
  relabel "$given/labels"
}

if [ "$act" = put_back ]; then
  put_back
  exit $?
fi
# What failed, without what kubeadm says at every run.
told() { grep -v '^[IW][0-9]\{4\} \|^To see the stack trace' "$1"; }

record=$(mktemp)
if change >"$record" 2>&1; then
  cat "$record"
  rm "$kept/whole"
  mkdir -p /var/lib/ksail/bootstrap
  [ -e /var/lib/ksail/bootstrap/whose ] || echo 0 >/var/lib/ksail/bootstrap/exit
  cp "$given/whose" /var/lib/ksail/bootstrap/whose.new
  sync
  mv /var/lib/ksail/bootstrap/whose.new /var/lib/ksail/bootstrap/whose
  cp "$given/own.conf" "/$config"
  rm -rf "$kept" "$given" "$record"
  exit 0
fi
record_of_before=$(mktemp)
if put_back >"$record_of_before" 2>&1; then
  told "$record"
  echo "what was before is in place again, and serves"
else
  told "$record"
  echo "what was before could not be put back:"
  told "$record_of_before" | tail -n 4
fi
rm -rf "$given" "$record" "$record_of_before"
exit 1
