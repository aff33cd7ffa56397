#!/usr/bin/env bash
# PostgreSQL 17, from an archive of binaries on Maven Central, or from the folder that POSTGRES_BIN names
# (/usr/lib/postgresql/15/bin after `apt-get install postgresql`).
#
#   postgres.sh start DIR    DIR/address: host:port; user and database postgres
#   postgres.sh stop DIR
#
# POSTGRES_PASSWORD     the superuser's password (default none, and none asked)
# POSTGRES_CERTIFICATE  a PEM file, with its key in POSTGRES_KEY: who asks for TLS gets it, and nobody must (default: no TLS)
# HEADWATER_SERVICES_HOST  the loopback address, for a certificate that names it

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=17.11.0
port=24432
password=${POSTGRES_PASSWORD:-}
stop_signal=INT # ends sessions; TERM would wait for them

# The server refuses to be root.
unprivileged=()
[ "$(id -u)" != 0 ] || unprivileged=(setpriv --reuid=nobody --regid=nogroup --clear-groups)

# A jar that holds an archive of initdb, pg_ctl and postgres.
install() {
  local machine
  case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64v8 ;; *) die "no binaries for $(uname -m)" ;; esac
  artifact "io.zonky.test.postgres:embedded-postgres-binaries-linux-$machine:$version:jar" &&
    python3 -m zipfile -e embedded-postgres-binaries-*.jar . && tar xJf postgres-*.txz && rm -r ./*.jar ./*.txz META-INF
}

binaries() {
  bin=${POSTGRES_BIN:-}
  [ -z "$bin" ] || return 0
  cached "postgres-$version" install
  bin=$cache/postgres-$version/bin
  "${unprivileged[@]}" test -x "$bin/postgres" && return
  # The cache is in a home directory that only its owner may enter.
  bin=$dir/software/bin
  [ -x "$bin/postgres" ] || cp -r "$cache/postgres-$version" "$dir/software"
}

initialise() {
  local login=(-A trust)
  mkdir -p "$dir/server"
  [ -z "$password" ] || { echo "$password" >"$dir/server/password" && login=(-A scram-sha-256 --pwfile="$dir/server/password"); }
  [ "$(id -u)" != 0 ] || chown -R nobody:nogroup "$dir/server"
  "${unprivileged[@]}" test -w "$dir/server" || die "$dir is not open to the user nobody"
  "${unprivileged[@]}" "$bin/initdb" -D "$dir/server/data" -U postgres "${login[@]}" -E UTF8 --locale=C --no-sync --no-instructions \
    >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
  # Only fsync is off: an acknowledged transaction survives the death of the server's process.
  cat >>"$dir/server/data/postgresql.conf" <<CONF
listen_addresses = '$host'
port = $port
unix_socket_directories = ''
fsync = off
shared_buffers = 32MB
max_connections = 200
CONF
  [ -z "${POSTGRES_CERTIFICATE:-}" ] || encrypt
}

# The server wants files of its own, the key readable by nobody else.
encrypt() {
  command install -m 644 "$POSTGRES_CERTIFICATE" "$dir/server/data/server.crt"
  command install -m 600 "${POSTGRES_KEY:?the key of POSTGRES_CERTIFICATE}" "$dir/server/data/server.key"
  [ "$(id -u)" != 0 ] || chown nobody:nogroup "$dir"/server/data/server.{crt,key}
  echo 'ssl = on' >>"$dir/server/data/postgresql.conf"
}

start() {
  binaries
  [ -s "$dir/server/data/postgresql.conf" ] || initialise
  alive postgres || {
    rm -f "$dir/server/data/postmaster.pid" # of a server that was killed; a zombie would pass for it
    launch postgres "${unprivileged[@]}" "$bin/postgres" -D "$dir/server/data"
  }
  await postgres 30 postgres_ready "$host" "$port"
  echo "$host:$port" >"$dir/address"
}

main "$@"
