#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real mosquitto on loopback, as a test peer.
#
#   mosquitto.sh start DIR PORT    anonymous on PORT, with a password on PORT+1 (user headrace,
#                                  password headrace-secret); returns when both listen
#   mosquitto.sh stop DIR | kill9 DIR
#
# Sessions live in DIR and are saved at a stop.
set -euo pipefail

alive() { # a zombie is not
    case $(awk '{print $3}' "/proc/$1/stat" 2>/dev/null) in '' | Z) return 1 ;; esac
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

start() {
    local dir=$1 port=$2 end=$((SECONDS + 10)) pid
    mkdir -p "$dir"
    rm -f "$dir/password"
    touch "$dir/password"
    chmod 600 "$dir/password"
    mosquitto_passwd -b "$dir/password" headrace headrace-secret
    cat >"$dir/mosquitto.conf" <<CONF
per_listener_settings true
persistence true
persistence_location $dir/
max_inflight_messages 0
max_queued_messages 0
user $(id -un)
log_dest file $dir/log
listener $port 127.0.0.1
allow_anonymous true
listener $((port + 1)) 127.0.0.1
allow_anonymous false
password_file $dir/password
CONF
    PATH=$PATH:/usr/sbin mosquitto -c "$dir/mosquitto.conf" >"$dir/out" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$dir/pid"
    until listens "$port" && listens "$((port + 1))"; do
        if [ $SECONDS -ge $end ] || ! alive $pid; then
            cat "$dir/out" "$dir/log" >&2
            return 1
        fi
        sleep 0.02
    done
}

end() { # SIGNAL DIR
    local pid limit=$((SECONDS + 10))
    pid=$(cat "$2/pid")
    kill "-$1" "$pid" 2>/dev/null || return 0
    while alive "$pid"; do
        [ $SECONDS -lt $limit ] || return 1
        sleep 0.02
    done
}

case ${1:-} in
start) start "$2" "$3" ;;
stop) end TERM "$2" ;;
kill9) end KILL "$2" ;;
*)
    sed -n '3,9s/^# \?//p' "$0"
    exit 2
    ;;
esac
