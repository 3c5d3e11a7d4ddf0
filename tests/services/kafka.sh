#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real Apache Kafka broker (KRaft, one node, loopback only) for tests.
#   kafka.sh deps                          fetch the jars, once (Maven)
#   kafka.sh start DIR PORT                format DIR when new, start, wait until it answers
#   kafka.sh stop DIR | kill9 DIR          end it; its data stays in DIR
#   kafka.sh topic PORT NAME PARTITIONS    make a topic
#   kafka.sh tool CLASS ARGS...            any class of the jars
# Clients speak to PORT, the controller to PORT+1, SASL/PLAIN (user bob, bob-secret) to PORT+2, TLS
# with a certificate of their own to PORT+3, SASL/PLAIN over TLS to PORT+4. DIR/tls holds ca.pem (who
# issued all), other-ca.pem (who did not), client.pem and key.pem.
# env: HEADRACE_CACHE, KAFKA_VERSION, KAFKA_HEAP (384m), KAFKA_EXTRA (lines for server.properties)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=${KAFKA_VERSION:-4.3.1}
jars=${HEADRACE_CACHE:-$HOME/.cache/headrace}/kafka-$version
heap=${KAFKA_HEAP:-384m}
common="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.net.preferIPv4Stack=true"

deps() {
  [ -f "$jars/.complete" ] && return 0
  mkdir -p "$jars"
  (
    flock 9
    [ -f "$jars/.complete" ] && exit 0
    mvn -B -q -f "$here/kafka_pom.xml" -Dkafka.version="$version" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$jars" >&2
    cat > "$jars/log4j2.properties" <<P
status = error
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n
rootLogger.level = \${sys:kafka.loglevel:-info}
rootLogger.appenderRef.out.ref = OUT
P
    touch "$jars/.complete"
  ) 9> "$jars/.lock"
}

tool() {
  # shellcheck disable=SC2086
  java -Xmx256m $common -Dkafka.loglevel=warn -Dlog4j2.configurationFile="$jars/log4j2.properties" -cp "$jars/*" "$@"
}

# a killed child of nobody stays a zombie for a moment
is_alive() {
  [ -d "/proc/$1" ] && [ "$(awk '{print $3}' "/proc/$1/stat" 2> /dev/null)" != Z ]
}

certificates() ( # DIR; one key for all: who holds it is not what is tested
  [ -d "$1/tls" ] && exit 0
  mkdir -p "$1/tls.new"
  cd "$1/tls.new"
  openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem
  openssl req -x509 -new -key key.pem -subj '/CN=headrace test' -days 30 -out ca.pem
  openssl req -x509 -new -key key.pem -subj '/CN=another' -days 30 -out other-ca.pem
  for who in localhost a-client; do
    openssl req -new -key key.pem -subj "/CN=$who" -out request.pem
    printf 'subjectAltName=DNS:%s,IP:127.0.0.1\n' "$who" > names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey key.pem -set_serial "$RANDOM" -days 30 \
      -extfile names -out "$who.pem" 2> /dev/null
  done
  mv a-client.pem client.pem
  cat key.pem localhost.pem > server.pem
  cd ..
  mv tls.new tls
)

configure() { # DIR PORT
  certificates "$1"
  cat > "$1/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(($2 + 1))
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$(($2 + 1)),SASL://127.0.0.1:$(($2 + 2)),TLS://127.0.0.1:$(($2 + 3)),SASLTLS://127.0.0.1:$(($2 + 4))
advertised.listeners=PLAINTEXT://127.0.0.1:$2,SASL://127.0.0.1:$(($2 + 2)),TLS://127.0.0.1:$(($2 + 3)),SASLTLS://127.0.0.1:$(($2 + 4))
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,SASLTLS:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=$1/tls/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$1/tls/ca.pem
listener.name.tls.ssl.client.auth=required
listener.name.sasltls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="bob-secret";
listener.name.sasltls.sasl.enabled.mechanisms=PLAIN
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="bob-secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$1/data
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
${KAFKA_EXTRA:-}
P
  if [ ! -f "$1/data/meta.properties" ]; then
    tool kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$1/server.properties" \
      --add-scram 'SCRAM-SHA-256=[name=alice,password=alice-secret]' > "$1/format.log" 2>&1 || {
      cat "$1/format.log" >&2
      return 1
    }
  fi
}

start() { # DIR PORT
  configure "$1" "$2"
  # shellcheck disable=SC2086
  setsid nohup java -Xms"$heap" -Xmx"$heap" $common -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$jars/log4j2.properties" -cp "$jars/*" \
    kafka.Kafka "$1/server.properties" >> "$1/broker.log" 2>&1 < /dev/null &
  echo $! > "$1/pid"
  for _ in $(seq 1 600); do
    is_alive "$(cat "$1/pid")" || {
      tail -20 "$1/broker.log" >&2
      return 1
    }
    if (exec 3<> "/dev/tcp/127.0.0.1/$2") 2> /dev/null &&
      kcat -b "127.0.0.1:$2" -L -m 1 2> /dev/null | grep -q ' brokers:'; then
      return 0
    fi
    sleep 0.1
  done
  return 1
}

stop() { # DIR SIGNAL
  local pid
  pid=$(cat "$1/pid" 2> /dev/null) || return 0
  kill "-$2" "$pid" 2> /dev/null || true
  for _ in $(seq 1 400); do
    is_alive "$pid" || break
    sleep 0.05
  done
  is_alive "$pid" && kill -9 "$pid"
  rm -f "$1/pid"
}

absolute() {
  mkdir -p "$1"
  (cd "$1" && pwd)
}

case ${1:-} in
  deps) deps ;;
  start)
    deps
    start "$(absolute "$2")" "$3"
    ;;
  stop) stop "$(absolute "$2")" TERM ;;
  kill9) stop "$(absolute "$2")" KILL ;;
  topic)
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$2" --create \
      --if-not-exists --topic "$3" --partitions "$4" --replication-factor 1
    ;;
  tool)
    deps
    shift
    tool "$@"
    ;;
  *)
    sed -n 3,11p "$0"
    exit 2
    ;;
esac
