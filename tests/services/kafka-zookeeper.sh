#!/usr/bin/env bash
# Apache Kafka 3.9, the last that runs on ZooKeeper, with Apache ZooKeeper 3.8, which is among its jars.
#
#   kafka-zookeeper.sh start DIR    DIR/address: bootstrap server; DIR/address.zookeeper
#   kafka-zookeeper.sh stop DIR
#
# KAFKA_HEAP=256m

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=3.9.2
zookeeper=24181
broker=24092

# A broker that was killed stays registered until its session has expired, and its successor is refused.
unregistered() {
  zookeeper_says "$host" "$zookeeper" dump '^SessionTracker dump' && ! zookeeper_says "$host" "$zookeeper" dump /brokers/ids/1
}

start() {
  local options
  cached "kafka-$version" jars "org.apache.kafka:kafka_2.13:$version" org.slf4j:slf4j-simple:1.7.36
  cat >"$dir/zookeeper.properties" <<EOF
dataDir=$dir/zookeeper-data
clientPort=$zookeeper
clientPortAddress=$host
admin.enableServer=false
4lw.commands.whitelist=srvr,dump
EOF
  cat >"$dir/kafka.properties" <<EOF
broker.id=1
zookeeper.connect=$host:$zookeeper
zookeeper.session.timeout.ms=6000
listeners=PLAINTEXT://$host:$broker
log.dirs=$dir/kafka-data
auto.create.topics.enable=true
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
controlled.shutdown.enable=false
# The default, 128 MiB, is allocated at once.
log.cleaner.dedupe.buffer.size=4194304
EOF
  options=("${jvm_small[@]}" -Xmx"${KAFKA_HEAP:-256m}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/kafka-$version/*")
  alive zookeeper || {
    class_archive "zookeeper-$version"
    launch zookeeper "$java" "${archive[@]}" "${options[@]}" org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zookeeper.properties"
  }
  await zookeeper 30 zookeeper_says "$host" "$zookeeper" srvr '^Mode:'
  alive kafka || {
    await zookeeper 30 unregistered
    class_archive "kafka-$version"
    launch kafka "$java" "${archive[@]}" "${options[@]}" kafka.Kafka "$dir/kafka.properties"
  }
  await kafka 60 kafka_ready "$host" "$broker" 1
  echo "$host:$zookeeper" >"$dir/address.zookeeper"
  echo "$host:$broker" >"$dir/address"
}

# The broker first: it would wait for a ZooKeeper that has gone.
stop() { halt kafka && halt zookeeper && keep_class_archives; }

main "$@"
