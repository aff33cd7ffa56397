#!/usr/bin/env bash
# wait.sh kafka|kafka-zookeeper|cassandra|postgres|registry|s3|zookeeper ADDRESS [SECONDS]: until the service there answers a real request (default 60 s).
# For services that somebody else started; without security. Of several addresses the first is asked.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] || die "usage: ${0##*/} kafka|kafka-zookeeper|cassandra|postgres|registry|s3|zookeeper ADDRESS [SECONDS]"
address=${2%%,*}
seconds=${3:-60}
case $1 in
  kafka | kafka-zookeeper) condition=(kafka_ready "${address%:*}" "${address##*:}" 1) ;;
  cassandra) condition=(cql_ready "${address%:*}" "${address##*:}" 0) ;;
  postgres) condition=(postgres_ready "${address%:*}" "${address##*:}") ;;
  registry)
    # http://HOST:PORT/PATH
    place=${address#http://} && place=${place%%/*}
    registry_ready() { [ "$(http GET "${place%:*}" "${place##*:}" "/${address#http://*/}/subjects")" = 200 ]; }
    condition=(registry_ready)
    ;;
  zookeeper) condition=(zookeeper_ready "${address%:*}" "${address##*:}") ;;
  s3) condition=(s3_ready "${address%:*}" "${address##*:}") ;;
  *) die "no probe for $1" ;;
esac
deadline=$((SECONDS + seconds))
until "${condition[@]}" 2>/dev/null; do
  ((SECONDS < deadline)) || die "$1 does not answer at $2 after $seconds s"
  sleep 0.05
done
