#!/usr/bin/env bash
# with-services.sh SERVICE... -- COMMAND...
#
# Starts the services at the same time, runs COMMAND with their addresses in its environment (KAFKA_ADDRESS for
# kafka.sh, CASSANDRA_ADDRESS for cassandra.sh, and so for every script beside this one), and stops them however it
# ends. SERVICE may be none. A service whose address is in the environment already is not started, only waited for.
# A service that cannot be had leaves its address unset, unless HEADWATER_REQUIRE_SERVICES=1: then nothing is run.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
services=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do services+=("$1") && shift; done
[ $# -gt 1 ] || { echo "usage: ${0##*/} SERVICE... -- COMMAND..." >&2; exit 2; }
shift

variable() { echo "$(tr a-z- A-Z_ <<<"$1")_ADDRESS"; } # SERVICE

command=
started=()
run=$(mktemp -d "${TMPDIR:-/tmp}/services.XXXXXX")
chmod 711 "$run" # a service may run as another user
export HEADWATER_SERVICES_OWNER=$$

finish() {
  local status=$? service
  trap - EXIT INT TERM
  kill $(jobs -p) 2>/dev/null || true
  [ -z "$command" ] || kill -- "-$command" 2>/dev/null || true
  wait
  for service in "${started[@]}"; do "$here/$service.sh" stop "$run/$service" & done
  wait
  case $status in
    0 | 130 | 143) rm -rf "$run" ;;
    *) [ ${#started[@]} = 0 ] && rm -rf "$run" || echo "${0##*/}: the services' logs are in $run" >&2 ;;
  esac
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

starts=()
for service in "${services[@]}"; do
  name=$(variable "$service")
  if [ -n "${!name:-}" ]; then
    "$here/wait.sh" "$service" "${!name}" &
  else
    started+=("$service")
    "$here/$service.sh" start "$run/$service" &
  fi
  starts+=($!)
done
for i in "${!services[@]}"; do
  service=${services[i]}
  name=$(variable "$service")
  if wait "${starts[i]}"; then
    [ -n "${!name:-}" ] || export "$name=$(<"$run/$service/address")"
  elif [ "${HEADWATER_REQUIRE_SERVICES:-}" = 1 ]; then
    exit 1
  else
    unset "$name"
    echo "${0##*/}: going on without $service" >&2
  fi
done

# In the background, so that a signal is acted upon at once; a group of its own, so that nothing it started outlives it.
setsid "$@" &
command=$!
wait "$command"
