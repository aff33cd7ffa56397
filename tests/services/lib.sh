# shellcheck shell=bash disable=SC2034,SC2046,SC2207
# What the service scripts share. Sourced, never run.
#
# A script keeps what one instance needs in DIR (configuration, data, NAME.log, NAME.pid, address) and what all
# instances share in the cache (unpacked software, class archives). `start` is idempotent: it revives what is not
# running, with its data. `stop` ends the processes and leaves DIR to its owner.

set -euo pipefail

cache=${HEADWATER_SERVICES_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/headwater/services}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
# The 2.x goal `copy` takes an artifact whose parent POM is missing; 3.x refuses it.
maven_dependency_plugin=org.apache.maven.plugins:maven-dependency-plugin:2.8
# Quick to start and small, not fast in the long run: no second compiler, one collector thread.
jvm_small=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xms64m)

die() { echo "${0##*/}: $*" >&2; exit 1; }

# --- the cache ---

# cached NAME COMMAND...: unless $cache/NAME is there, run COMMAND in an empty folder that then becomes it.
# One download at a time: Maven's local repository is not safe for several writers.
cached() {
  local target=$cache/$1
  shift
  [ -d "$target" ] && return
  (
    exec 9>"$cache/.lock"
    flock 9
    [ -d "$target" ] && exit
    rm -rf "$target.part" && mkdir "$target.part" && cd "$target.part" &&
      { "$@" >"$target.log" 2>&1 9>&- || { cat "$target.log" >&2; false; }; } && rm "$target.log" && mv "$target.part" "$target"
  ) || die "could not install $target"
}

# jars GROUP:ARTIFACT:VERSION...: these jars and all they need at run time, into the current folder.
jars() {
  local coordinate group artifact version
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>services</groupId><artifactId>classpath</artifactId>'
    echo '<version>1</version><packaging>pom</packaging><dependencies>'
    for coordinate; do
      IFS=: read -r group artifact version <<<"$coordinate"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >pom.xml
  mvn -B -q "$maven_dependency_plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory=.
}

# artifact GROUP:ARTIFACT:VERSION:TYPE[:CLASSIFIER]: one file, into the current folder. The 2.x plugin takes an artifact
# whose parent POM is missing; 3.x refuses it.
artifact() { mvn -B -q "$maven_dependency_plugin:copy" -Dartifact="$1" -DoutputDirectory=.; }

# --- processes ---

# enter DIR: the folder of this instance, made if need be, and its address. Every instance has a loopback address
# of its own, so fixed ports never meet those of another run.
enter() {
  mkdir -p "$1"
  dir=$(cd "$1" && pwd)
  [ -s "$dir/host" ] || echo "${HEADWATER_SERVICES_HOST:-127.$((RANDOM % 250 + 2)).$((RANDOM % 250 + 2)).$((RANDOM % 250 + 2))}" >"$dir/host"
  host=$(<"$dir/host")
}

# A zombie that its parent has not collected does not count as alive.
alive() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}

# launch NAME COMMAND...: COMMAND in the background, leader of a process group of its own. When
# HEADWATER_SERVICES_OWNER names a process, the group does not outlive it, however that process ends.
launch() {
  local name=$1 pid
  shift
  setsid "$@" >"$dir/$name.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir/$name.pid"
  [ -z "${HEADWATER_SERVICES_OWNER:-}" ] || setsid bash -c '
    while kill -0 "$0" && kill -0 "$1"; do sleep 1; done; kill -- "-$1"
  ' "$HEADWATER_SERVICES_OWNER" "$pid" >/dev/null 2>&1 </dev/null &
}

# await NAME SECONDS CONDITION...: until CONDITION holds; fails at once when NAME has ended, whoever may then answer.
await() {
  local name=$1 seconds=$2 deadline=$((SECONDS + $2))
  shift 2
  until alive "$name" && "$@" 2>/dev/null; do
    alive "$name" || { tail -n 20 "$dir/$name.log" >&2; die "$name has ended, see $dir/$name.log"; }
    ((SECONDS < deadline)) || die "$name is not ready after $seconds s, see $dir/$name.log"
    sleep 0.05
  done
}

# halt [NAME...]: ask these processes, or all of DIR, to end; SIGKILL to what is left of their groups after ten seconds.
halt() {
  local name deadline=$((SECONDS + 10))
  [ $# -gt 0 ] || set -- $(cd "$dir" && ls -- *.pid 2>/dev/null | sed 's/\.pid$//')
  for name; do ! alive "$name" || kill -"${stop_signal:-TERM}" "$(<"$dir/$name.pid")" || true; done
  for name; do
    while alive "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    [ ! -s "$dir/$name.pid" ] || kill -KILL -- "-$(<"$dir/$name.pid")" 2>/dev/null || true
    rm -f "$dir/$name.pid"
  done
}

# certificate: a self-signed one for $host, unless DIR has it: server.p12 (password changeit) and ca.pem.
certificate() {
  local keytool=${JAVA_HOME:+$JAVA_HOME/bin/}keytool
  [ ! -s "$dir/ca.pem" ] || return 0
  "$keytool" -genkeypair -alias server -keyalg EC -groupname secp256r1 -validity 3650 -dname CN=localhost \
    -ext "san=ip:$host,dns:localhost" -storetype PKCS12 -keystore "$dir/server.p12" -storepass changeit 2>/dev/null
  "$keytool" -exportcert -rfc -alias server -keystore "$dir/server.p12" -storepass changeit -file "$dir/ca.pem" 2>/dev/null
}

# --- class data sharing: a JVM that finds its classes parsed starts in half the time ---

# class_archive NAME: sets `archive` to the flags that use the archive in the cache; where there is none yet for this
# JVM, to those that make one when it exits, which `keep_class_archives` then moves to the cache.
class_archive() {
  local jvm file
  archive=()
  jvm=$("$java" -Xshare:on -version 2>&1) || return 0 # this JVM shares no classes
  file=$1-$(cksum <<<"$jvm" | cut -d' ' -f1).jsa
  archive=(-Xlog:disable -Xlog:all=error:stderr)
  if [ -s "$cache/$file" ]; then archive+=(-XX:SharedArchiveFile="$cache/$file")
  else archive+=(-XX:ArchiveClassesAtExit="$dir/$file"); fi
}
keep_class_archives() {
  local file
  for file in "$dir"/*.jsa; do
    [ ! -s "$file" ] || { mv "$file" "$cache/.${file##*/}.$$" && mv -f "$cache/.${file##*/}.$$" "$cache/${file##*/}"; } || true
  done
}

# --- probes: one request, one real answer, with nothing but bash ---

# connect HOST PORT: descriptor 3; leaves the probe (a subshell) when nobody listens.
connect() { exec 3<>"/dev/tcp/$1/$2" || exit 1; }

# numbers COUNT: the next COUNT bytes from descriptor 3, in decimal.
numbers() { timeout 5 head -c "$1" <&3 | od -An -v -tu1 | tr -s ' \n' ' '; }

# kafka_ready HOST PORT BROKERS: metadata lists BROKERS brokers or more (Metadata v1) and there is a group coordinator
# (FindCoordinator v0; asking creates the offsets topic, which a first consumer would otherwise wait for).
kafka_ready() (
  connect "$1" "$2"
  printf '\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\0\0\0\0' >&3
  reply=($(numbers 12))
  ((reply[11] >= $3)) || exit 1
  connect "$1" "$2"
  printf '\0\0\0\x0d\0\x0a\0\0\0\0\0\x01\xff\xff\0\x01w' >&3
  reply=($(numbers 10))
  [ "${reply[8]}${reply[9]}" = 00 ]
)

# zookeeper_says HOST PORT WORD PATTERN: the answer to a word of four letters has a line that matches; an answer that
# does not come fails too.
zookeeper_says() (
  connect "$1" "$2"
  printf %s "$3" >&3
  timeout 5 cat <&3 | grep -q -- "$4"
)

# cql_ready HOST PORT PEERS: STARTUP is answered with READY; or, asked to authenticate, the default superuser is let
# in. Then the node knows PEERS or more other members of the ring.
cql_ready() (
  query='SELECT count(*) FROM system.peers_v2'
  reply() { # its operation code in $code, its body in $body
    local header
    header=($(numbers 9)) && code=${header[4]} && body=($(numbers $((header[7] << 8 | header[8]))))
  }
  connect "$1" "$2"
  printf '\x04\0\0\0\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\0053.0.0' >&3 && reply || exit 1
  if [ "$code" = 3 ]; then
    printf '\x04\0\0\0\x0f\0\0\0\x18\0\0\0\x14\0cassandra\0cassandra' >&3 && reply && [ "$code" = 16 ] || exit 1
  elif [ "$code" != 2 ]; then exit 1; fi
  printf "\x04\0\0\0\x07\0\0\0\x$(printf %x $((${#query} + 7)))\0\0\0\x$(printf %x ${#query})%s\0\x01\0" "$query" >&3 && reply || exit 1
  [ "$code" = 8 ] && ((body[-1] >= $3)) # the count is the last eight bytes of the rows
)

# postgres_ready HOST PORT: a session as postgres is asked to log in, or let in; not "the database system is starting up".
postgres_ready() (
  connect "$1" "$2"
  printf '\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0' >&3
  reply=($(numbers 1))
  ((reply[0] == 82)) # R
)

# zookeeper_ready HOST PORT: it says in which mode it serves.
zookeeper_ready() ( connect "$1" "$2" && printf srvr >&3 && timeout 5 cat <&3 | grep -q '^Mode:' )

# s3_ready HOST PORT: the list of buckets is 200.
s3_ready() (
  connect "$1" "$2"
  printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
  [ "$(timeout 5 head -n 1 <&3 | cut -d' ' -f2)" = 200 ]
)

# http METHOD HOST PORT PATH [USER:PASSWORD [BODY]]: the status code.
http() (
  text=${6:-}
  connect "$2" "$3"
  printf '%s %s HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n' "$1" "$4" "$2" "${#text}" >&3
  [ -z "${5:-}" ] || printf 'Authorization: Basic %s\r\n' "$(printf %s "$5" | base64 -w0)" >&3
  printf "\r\n%s" "$text" >&3
  timeout 5 head -n 1 <&3 | cut -d' ' -f2
)

# --- the end of every service script, which defines `start` and may define its own `stop` ---

stop() { halt && keep_class_archives; }

# main start|stop DIR: a start that fails leaves nothing running.
main() {
  [ $# = 2 ] || die "usage: ${0##*/} start|stop DIR"
  enter "$2"
  case $1 in
    start) trap '[ "$?" = 0 ] || stop' EXIT && start ;;
    stop) stop ;;
    *) die "usage: ${0##*/} start|stop DIR" ;;
  esac
}
