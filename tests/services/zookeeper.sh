#!/usr/bin/env bash
# Apache ZooKeeper 3.8 alone, one server, from among the jars of Apache Kafka 3.9, the last that had it.
#
#   zookeeper.sh start DIR    DIR/address: host:port
#   zookeeper.sh stop DIR
#
# ZOOKEEPER_HEAP=64m

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=3.9.2

start() {
  local options
  cached "kafka-$version" jars "org.apache.kafka:kafka_2.13:$version" org.slf4j:slf4j-simple:1.7.36
  # The tick of ZooKeeper's own sample: sessions are at least two of them.
  cat >"$dir/zookeeper.properties" <<END
dataDir=$dir/data
tickTime=2000
clientPort=24181
clientPortAddress=$host
admin.enableServer=false
4lw.commands.whitelist=srvr,dump
END
  alive zookeeper || {
    class_archive "zookeeper-$version"
    options=("${jvm_small[@]}" -Xms32m -Xmx"${ZOOKEEPER_HEAP:-64m}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
    launch zookeeper "$java" "${archive[@]}" "${options[@]}" -cp "$cache/kafka-$version/*" \
      org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zookeeper.properties"
  }
  await zookeeper 30 zookeeper_ready "$host" 24181
  echo "$host:24181" >"$dir/address"
}

main "$@"
