#!/usr/bin/env bash
# An S3 server: moto, from PyPI. It keeps objects in memory and honours conditional writes, which the logs rest on.
#
#   s3.sh start DIR    DIR/address: host:port, plain HTTP, any credentials
#   s3.sh stop DIR

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=5.2.5
port=24090

start() {
  # Into a folder, not a virtual environment: the cache moves it once it is complete.
  cached "moto-$version" python3 -m pip install -q --disable-pip-version-check --target=. "moto[server,s3]==$version"
  alive s3 || launch s3 env PYTHONPATH="$cache/moto-$version" python3 -m moto.server -H "$host" -p "$port"
  await s3 60 s3_ready "$host" "$port"
  echo "$host:$port" >"$dir/address"
}

main "$@"
