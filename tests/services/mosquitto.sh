#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real mosquitto on loopback, as a test peer.
#
#   mosquitto.sh start DIR PORT    returns when all of these listen:
#     PORT    anonymous
#     PORT+1  with a password (user headrace, password headrace-secret)
#     PORT+2  TLS; the certificate is DIR/tls/server.pem
#     PORT+3  TLS with a client certificate and a password
#     PORT+4  with a password; subscriptions are refused but what `allow` named
#   mosquitto.sh certificate DIR good|expired|elsewhere    what server.pem is; read by a start
#   mosquitto.sh allow PORT FILTER
#   mosquitto.sh stop DIR | kill9 DIR
#
# DIR/tls has ca.pem, other-ca.pem, client.pem and key.pem. Sessions live in DIR and are saved at a
# stop.
set -euo pipefail

alive() { # a zombie is not
    case $(awk '{print $3}' "/proc/$1/stat" 2>/dev/null) in '' | Z) return 1 ;; esac
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

authority() { # FILE NAME
    openssl req -x509 -new -key "$PWD/key.pem" -subj "/CN=$2" -days 30 -out "$1"
}

issue() { # FILE NAME SUBJECT_ALT_NAME END
    openssl req -new -key key.pem -subj "/CN=$2" -out request.pem
    printf '%s\n' '[ca]' 'default_ca=one' '[one]' "database=$PWD/index" 'default_md=sha256' \
        'policy=any' 'rand_serial=yes' 'x509_extensions=names' 'new_certs_dir=.' \
        'unique_subject=no' '[any]' 'commonName=supplied' '[names]' "subjectAltName=$3" >issue.cnf
    openssl ca -batch -notext -config issue.cnf -cert ca.pem -keyfile key.pem -in request.pem \
        -out "$1" -startdate 20200101000000Z -enddate "$4"
}

certificates() ( # one key for all: who holds it is not what is tested
    mkdir -p "$1/tls"
    cd "$1/tls"
    openssl ecparam -name prime256v1 -genkey -noout -out key.pem
    authority ca.pem 'headrace test'
    authority other-ca.pem 'another'
    : >index
    issue good.pem localhost DNS:localhost,IP:127.0.0.1 20991231235959Z
    issue expired.pem localhost DNS:localhost,IP:127.0.0.1 20200201000000Z
    issue elsewhere.pem elsewhere.example DNS:elsewhere.example 20991231235959Z
    issue client.pem a-client DNS:a-client 20991231235959Z
    cp good.pem server.pem
)

start() {
    local dir=$1 port=$2 end pid n has_rules=
    mkdir -p "$dir"
    rm -f "$dir/password"
    touch "$dir/password"
    chmod 600 "$dir/password"
    mosquitto_passwd -b "$dir/password" headrace headrace-secret
    [ -e "$dir/tls/server.pem" ] || certificates "$dir" >"$dir/certificates" 2>&1 || {
        cat "$dir/certificates" >&2
        return 1
    }
    if [ -e "$dir/rules" ]; then
        has_rules=y
    else
        mosquitto_ctrl dynsec init "$dir/rules" admin headrace-secret >/dev/null
    fi
    cat >"$dir/mosquitto.conf" <<CONF
per_listener_settings true
persistence true
persistence_location $dir/
max_inflight_messages 0
max_queued_messages 0
user $(id -un)
log_dest file $dir/log
log_type error
log_type warning
log_type notice
log_type subscribe
listener $port 127.0.0.1
allow_anonymous true
listener $((port + 1)) 127.0.0.1
allow_anonymous false
password_file $dir/password
listener $((port + 2)) 127.0.0.1
allow_anonymous true
certfile $dir/tls/server.pem
keyfile $dir/tls/key.pem
listener $((port + 3)) 127.0.0.1
allow_anonymous false
password_file $dir/password
cafile $dir/tls/ca.pem
certfile $dir/tls/server.pem
keyfile $dir/tls/key.pem
require_certificate true
listener $((port + 4)) 127.0.0.1
plugin $(find /usr/lib /usr/local/lib -name mosquitto_dynamic_security.so | head -1)
plugin_opt_config_file $dir/rules
CONF
    PATH=$PATH:/usr/sbin mosquitto -c "$dir/mosquitto.conf" >"$dir/out" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$dir/pid"
    end=$((SECONDS + 20))
    for n in 0 1 2 3 4; do
        until listens "$((port + n))"; do
            if [ $SECONDS -ge $end ] || ! alive $pid; then
                cat "$dir/out" "$dir/log" >&2
                kill $pid 2>/dev/null || true
                return 1
            fi
            sleep 0.02
        done
    done
    if [ -z "$has_rules" ]; then
        rule "$port" createClient headrace -p headrace-secret
        rule "$port" createRole reader
        rule "$port" addClientRole headrace reader
    fi
}

rule() { # PORT WORDS
    mosquitto_ctrl -h 127.0.0.1 -p "$(($1 + 4))" -u admin -P headrace-secret dynsec "${@:2}" \
        >/dev/null 2>&1
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
certificate) cp "$2/tls/$3.pem" "$2/tls/server.pem" ;;
allow) rule "$2" addRoleACL reader subscribePattern "$3" allow ;;
stop) end TERM "$2" ;;
kill9) end KILL "$2" ;;
*)
    sed -n '3,16s/^# \?//p' "$0"
    exit 2
    ;;
esac
