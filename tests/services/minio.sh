#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real MinIO on loopback, as a test peer (AGPL: nothing of it is shipped).
#
#   minio.sh binary                       prints its path, building it into the cache if missing
#   minio.sh start DIR PORT URL [AUTH]    serves DIR on 127.0.0.1:PORT and returns when it is ready;
#                                         notifications go to URL by the target
#                                         arn:minio:sqs::hook:webhook, with the header
#                                         "Authorization: AUTH", through a queue on disk, which has
#                                         them before the client is answered (sync_events)
#   minio.sh stop DIR | kill9 DIR
#
# User headrace, password headrace-secret.
set -euo pipefail

version=v0.0.0-20260212201848-7aac2a2c5b7c
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}/minio/$version

binary() {
    if [ ! -x "$cache/minio" ]; then
        mkdir -p "$cache"
        (
            flock 9 # one build, whoever asks first
            [ -x "$cache/minio" ] && exit 0
            go=$("$here/../lib/go.sh")
            echo "building MinIO $version once, some minutes" >&2
            CGO_ENABLED=0 GOFLAGS=-modcacherw GOBIN=$cache/part nice "$go" install -trimpath \
                -ldflags "-s -w" "github.com/minio/minio@$version" >&2
            mv "$cache/part/minio" "$cache/minio"
        ) 9>"$cache/lock"
    fi
    echo "$cache/minio"
}

alive() { # a zombie is not
    case $(awk '{print $3}' "/proc/$1/stat" 2>/dev/null) in '' | Z) return 1 ;; esac
}

wait_for() { # LIMIT_S CONDITION...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

ready() {
    "$here/../lib/s3.py" ready "$1" || ! alive "$2"
}

dead() {
    ! alive "$1"
}

start() {
    local dir=$1 port=$2 url=$3 auth=${4:-} program
    program=$(binary)
    mkdir -p "$dir/data" "$dir/queue"
    dir=$(cd "$dir" && pwd)
    export MINIO_ROOT_USER=headrace MINIO_ROOT_PASSWORD=headrace-secret MINIO_BROWSER=off \
        MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off GOMEMLIMIT=512MiB MINIO_API_SYNC_EVENTS=on \
        MINIO_NOTIFY_WEBHOOK_ENABLE_hook=on MINIO_NOTIFY_WEBHOOK_ENDPOINT_hook="$url" \
        MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_hook="$auth" \
        MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_hook="$dir/queue" MINIO_NOTIFY_WEBHOOK_QUEUE_LIMIT_hook=100000
    setsid "$program" --config-dir "$dir/config" server --address "127.0.0.1:$port" "$dir/data" \
        >"$dir/minio.log" 2>&1 </dev/null &
    local pid=$!
    echo "$pid" >"$dir/pid"
    if ! wait_for 60 ready "$port" "$pid" || ! alive "$pid"; then
        cat "$dir/minio.log" >&2
        kill -9 "$pid" 2>/dev/null || true
        return 1
    fi
}

end() { # DIR SIGNAL
    local pid
    pid=$(cat "$1/pid")
    kill "-$2" "$pid" 2>/dev/null || true
    wait_for 20 dead "$pid" || kill -9 "$pid"
    rm -f "$1/pid"
}

case ${1:-} in
binary) binary ;;
start) start "${@:2}" ;;
stop) end "$2" TERM ;;
kill9) end "$2" KILL ;;
*)
    sed -n '3,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
