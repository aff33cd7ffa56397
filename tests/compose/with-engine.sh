#!/usr/bin/env bash
# with-engine.sh COMMAND...
#
# Runs COMMAND with a Docker engine of its own, which has the image debian:bookworm-slim and no registry to pull from:
# DOCKER_HOST and DOCKER_CONFIG say where it is, `docker` and `docker-compose` are on PATH.
#
# Engine and COMMAND live in namespaces of their own (network, mounts, processes): its bridges, its packet filter and its
# forwarding are not this machine's, and everything ends with the first process of them, however that ends. The network is
# joined to the world by slirp4netns, for packages alone; addresses of this machine are not reached, nor is anything in
# there from outside.
#
# Needs root, and on Debian installs what is missing: docker.io, docker-compose, debootstrap, iptables, iproute2,
# slirp4netns. Images stay in ${XDG_CACHE_HOME:-~/.cache}/headwater/docker; one engine at a time uses it.
#
# Exit status: COMMAND's; 69 where no engine can be had, with the reason on stderr.

set -euo pipefail

cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/headwater/docker
self=$(realpath "${BASH_SOURCE[0]}")
cgroup=headwater-tests
unavailable() { echo "${0##*/}: no Docker engine: $*" >&2; exit 69; }

# --- outside ---

outside() {
  [ $# -gt 0 ] || { echo "usage: ${0##*/} COMMAND..." >&2; exit 2; }
  [ "$(uname -s)" = Linux ] || unavailable "this is not Linux"
  [ "$(id -u)" = 0 ] || unavailable "it takes root"
  [ -c /dev/net/tun ] || unavailable "there is no /dev/net/tun"
  local pair missing=()
  for pair in dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap iptables:iptables ip:iproute2 \
    slirp4netns:slirp4netns; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
  if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || unavailable "not installed: ${missing[*]}"
    echo "${0##*/}: installing ${missing[*]}" >&2
    # Its package starts the engine it brings, where nothing forbids it: none is wanted but the one below.
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
      >/dev/null 2>&1 || unavailable "cannot install ${missing[*]}"
  fi
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock -w 900 9 || unavailable "another test run has held $cache/lock for 15 minutes"
  discard_cgroups # of a run that was killed
  folder=$(mktemp -d /tmp/hw-engine.XXXXXX) # short: the path of a socket is bounded
  engine= network=
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  # Whoever is killed takes what is below along: the shell unshare, that the first process of the namespace, that all.
  setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc -- "$self" --inside "$folder" "$@" 9>&- &
  engine=$!
  local first
  until first=$(pgrep -P "$engine"); do kill -0 "$engine" 2>/dev/null || unavailable "no namespaces: unshare failed"; sleep 0.05; done
  setpriv --pdeathsig KILL slirp4netns --configure --mtu=65520 --disable-host-loopback "$first" tap0 >"$folder/slirp4netns.log" 2>&1 9>&- &
  network=$!
  wait "$engine"
}

finish() {
  local status=$?
  trap - EXIT INT TERM
  # The first process ends in good order when asked to; unshare passes nothing on.
  ! kill -0 "$engine" 2>/dev/null || {
    pkill -TERM -P "$engine" || true
    local deadline=$((SECONDS + 30))
    while kill -0 "$engine" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
    kill -KILL "$engine" 2>/dev/null || true
  }
  [ -z "$network" ] || kill "$network" 2>/dev/null || true
  wait 2>/dev/null || true
  discard_cgroups
  rm -rf "$folder"
  exit "$status"
}

# Control groups are the one thing that is not in a namespace; empty ones stay.
discard_cgroups() {
  find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$cgroup" 2>/dev/null |
    while read -r group; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
}

# --- inside ---

inside() {
  folder=$1
  shift
  command= dockerd=
  trap ending EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  local deadline=$((SECONDS + 10))
  until ip link show tap0 >/dev/null 2>&1; do
    ((SECONDS < deadline)) || unavailable "slirp4netns: $(tail -n 1 "$folder/slirp4netns.log")"
    sleep 0.05
  done
  ip link set lo up
  echo "nameserver 10.0.2.3" >"$folder/resolv.conf"
  mount --bind "$folder/resolv.conf" /etc/resolv.conf
  # Debian's client is of the engine's version, and can ask for either builder.
  mkdir -p "$folder/bin" "$folder/config"
  [ ! -x /usr/bin/docker ] || ln -s /usr/bin/docker "$folder/bin/docker"
  [ ! -x "$cache/compose-v5" ] || { mkdir -p "$folder/config/cli-plugins" && ln -s "$cache/compose-v5" "$folder/config/cli-plugins/docker-compose"; }
  export PATH=$folder/bin:$PATH DOCKER_HOST=unix://$folder/docker.sock DOCKER_CONFIG=$folder/config
  start_engine || { rm -rf "$cache/data" && start_engine; } || unavailable "dockerd: $(grep -E 'level=(error|fatal)|failed' "$folder/dockerd.log" | tail -n 1)"
  # Of a run that was killed.
  docker ps -aq | xargs -r docker rm -fv >/dev/null
  docker network prune -f >/dev/null
  docker volume prune -f >/dev/null
  base_image >&2 || unavailable "no base image: debootstrap: $(tail -n 1 "$folder/debootstrap.log" 2>/dev/null)"
  setsid "$@" &
  command=$!
  wait "$command"
}

start_engine() {
  # Left to itself the group of all containers weighs a five-hundredth of one process outside: next to nothing, where there
  # is other work.
  local weight=/sys/fs/cgroup/cpu/$cgroup
  [ ! -d "${weight%/*}" ] || { mkdir -p "$weight" && echo 4096 >"$weight/cpu.shares"; }
  setsid dockerd --data-root "$cache/data" --exec-root "$folder/exec" --pidfile "$folder/dockerd.pid" -H "$DOCKER_HOST" \
    --cgroup-parent "/$cgroup" >"$folder/dockerd.log" 2>&1 </dev/null &
  dockerd=$!
  local deadline=$((SECONDS + 30))
  until docker version >/dev/null 2>&1; do
    kill -0 "$dockerd" 2>/dev/null && ((SECONDS < deadline)) || { kill -KILL "$dockerd" 2>/dev/null; return 1; }
    sleep 0.1
  done
}

ending() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$command" ] || kill -- "-$command" 2>/dev/null || true
  if docker version >/dev/null 2>&1; then
    docker ps -aq | xargs -r docker rm -fv >/dev/null 2>&1 || true
    kill "$dockerd" 2>/dev/null && wait "$dockerd" 2>/dev/null || true
  fi
  exit "$status"
}

# debian:bookworm-slim as debootstrap makes it. It trusts the certificates that this machine trusts, so that packages are
# found behind a proxy that signs anew: never publish an image made of it.
base_image() {
  ! docker image inspect debian:bookworm-slim >/dev/null 2>&1 || return 0
  local root=$folder/root began=$SECONDS
  debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$folder/debootstrap.log" 2>&1 || return 1
  ! compgen -G "/usr/local/share/ca-certificates/*.crt" >/dev/null || cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
  chroot "$root" update-ca-certificates >/dev/null 2>&1
  # As the official image has it: each layer would else keep the package cache, 80 MB.
  cat >"$root/etc/apt/apt.conf.d/docker-clean" <<'APT'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
APT
  rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
  tar -C "$root" -c . | docker import -c 'CMD ["bash"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    - debian:bookworm-slim >/dev/null
  rm -rf "$root"
  echo "${0##*/}: made debian:bookworm-slim in $((SECONDS - began)) s"
}

if [ "${1:-}" = --inside ]; then shift && inside "$@"; else outside "$@"; fi
