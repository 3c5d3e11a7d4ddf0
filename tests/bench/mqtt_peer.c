/* SPDX-License-Identifier: Apache-2.0 */
/* The other sides of `./dev bench mqtt`.
 *
 *   mqtt_peer flood COUNT            a broker of one client that does nothing but publish at QoS 1
 *   mqtt_peer load PORT COUNT        publishes at QoS 1 to a broker, 1,000 under way
 *   mqtt_peer take PORT COUNT ID     bare paho subscriber with a session; COUNT 0: only makes it
 *
 * flood prints its port, then "COUNT SECONDS" from the first message to the last PUBACK. take
 * prints "COUNT SECONDS CPU_SECONDS" from the first message to the last. Message i is 200 bytes of
 * JSON on site/a/device/d-N/temp. Packets: MQTT 3.1.1 and 5.0, OASIS. */
#include <MQTTAsync.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    VALUE_BYTES = 200,
    DEVICES = 100,
    ROOM = 1 << 20,
    PACKET_MAX = 512, /* of what is sent */
    LOAD_WINDOW = 1000,
    WAIT_S = 600
};
enum { CONNECT = 1, CONNACK, PUBLISH, PUBACK, SUBSCRIBE = 8, SUBACK, PINGREQ = 12, PINGRESP };

static void die(const char *what) {
    fprintf(stderr, "mqtt_peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* ---- packets ---- */

/* A connection: what came and is not looked at, what goes out and is not sent. */
typedef struct wire {
    int fd;
    uint8_t in[ROOM], out[ROOM];
    size_t in_size, out_size, out_at;
    int version;      /* 4: 3.1.1; 5 */
    int64_t window;   /* publishes that may be under way */
    bool is_wanted;   /* it has subscribed */
    int64_t answered; /* PUBACKs so far */
    bool is_taken;    /* CONNACK came */
} wire;

static void put(wire *w, const void *bytes, size_t size) {
    memcpy(w->out + w->out_size, bytes, size);
    w->out_size += size;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t size = strlen(text);
    *at++ = (uint8_t)(size >> 8);
    *at++ = (uint8_t)size;
    memcpy(at, text, size);
    return at + size;
}

static void put_publish(wire *w, int64_t i) {
    char topic[64];
    uint8_t packet[PACKET_MAX], *at = packet + 3; /* the length takes two bytes */
    snprintf(topic, sizeof topic, "site/a/device/d-%d/temp", (int)(i % DEVICES));
    at = put_text(at, topic);
    uint16_t id = (uint16_t)(i % 65535 + 1);
    *at++ = (uint8_t)(id >> 8);
    *at++ = (uint8_t)id;
    if (w->version == 5) {
        *at++ = 0;
    }
    char value[VALUE_BYTES + 1];
    int size = snprintf(value, sizeof value, "{\"seq\":%" PRId64 ",\"temp\":40.5,\"pad\":\"", i);
    memset(value + size, 'x', (size_t)(VALUE_BYTES - 2 - size));
    memcpy(value + VALUE_BYTES - 2, "\"}", 2);
    memcpy(at, value, VALUE_BYTES);
    at += VALUE_BYTES;
    size_t length = (size_t)(at - packet) - 3;
    packet[0] = PUBLISH << 4 | 1 << 1;
    packet[1] = (uint8_t)(length % 128 | 128);
    packet[2] = (uint8_t)(length / 128);
    put(w, packet, length + 3);
}

/* The receive maximum of the properties of a CONNECT, 65,535 when it says none. */
static int64_t receive_maximum(const uint8_t *at, size_t size) {
    size_t length = at[0]; /* a client's properties are short */
    for (size_t i = 1; i <= length && i < size;) {
        switch (at[i]) {
        case 0x21:
            return at[i + 1] << 8 | at[i + 2];
        case 0x22:
            i += 3;
            break;
        case 0x17:
        case 0x19:
            i += 2;
            break;
        case 0x11:
        case 0x27:
            i += 5;
            break;
        default:
            return 65535;
        }
    }
    return 65535;
}

static void on_packet(wire *w, uint8_t type, const uint8_t *body, size_t size) {
    static const uint8_t taken[] = {CONNACK << 4, 2, 0, 0}, taken5[] = {CONNACK << 4, 3, 0, 0, 0};
    static const uint8_t alive[] = {PINGRESP << 4, 0};
    switch (type) {
    case CONNECT:
        w->version = body[6];
        w->window = w->version == 5 ? receive_maximum(body + 10, size - 10) : 65535;
        put(w, w->version == 5 ? taken5 : taken, w->version == 5 ? sizeof taken5 : sizeof taken);
        break;
    case CONNACK:
        w->is_taken = true;
        break;
    case SUBSCRIBE: {
        const uint8_t answer[] = {SUBACK << 4, 3, body[0], body[1], 1};
        const uint8_t answer5[] = {SUBACK << 4, 4, body[0], body[1], 0, 1};
        put(w, w->version == 5 ? answer5 : answer,
            w->version == 5 ? sizeof answer5 : sizeof answer);
        w->is_wanted = true;
        break;
    }
    case PUBACK:
        w->answered++;
        break;
    case PINGREQ:
        put(w, alive, sizeof alive);
        break;
    default:
        break;
    }
}

static void take_packets(wire *w) {
    size_t at = 0;
    while (w->in_size - at >= 2) {
        size_t length = 0, head = 1;
        for (unsigned shift = 0; shift < 28 && at + head < w->in_size; shift += 7) {
            uint8_t byte = w->in[at + head++];
            length |= (size_t)(byte & 127) << shift;
            if (byte < 128) {
                break;
            }
        }
        if ((w->in[at + head - 1] & 128) != 0 || w->in_size - at - head < length) {
            break;
        }
        on_packet(w, w->in[at] >> 4, w->in + at + head, length);
        at += head + length;
    }
    memmove(w->in, w->in + at, w->in_size - at);
    w->in_size -= at;
}

/* Sends and takes what there is, waits when neither goes. false: the peer hung up. */
static bool turn(wire *w) {
    struct pollfd fd = {.fd = w->fd, .events = POLLIN};
    if (w->out_at < w->out_size) {
        ssize_t sent =
            send(w->fd, w->out + w->out_at, w->out_size - w->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        w->out_at += sent > 0 ? (size_t)sent : 0;
        if (w->out_at == w->out_size) {
            w->out_at = w->out_size = 0;
        } else {
            fd.events |= POLLOUT;
        }
    }
    poll(&fd, 1, 1000);
    if ((fd.revents & (POLLIN | POLLHUP | POLLERR)) == 0) {
        return true;
    }
    ssize_t got = recv(w->fd, w->in + w->in_size, sizeof w->in - w->in_size, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        return false;
    }
    w->in_size += got > 0 ? (size_t)got : 0;
    take_packets(w);
    return true;
}

/* Publishes all and waits for each PUBACK. Returns the seconds it took. */
static double publish(wire *w, int64_t count) {
    double begin = now_s();
    for (int64_t sent = 0; w->answered < count;) {
        while (sent < count && sent - w->answered < w->window &&
               w->out_size + PACKET_MAX < sizeof w->out) {
            put_publish(w, sent++);
        }
        if (!turn(w)) {
            die("the other side hung up");
        }
    }
    return now_s() - begin;
}

/* ---- flood, load ---- */

static int flood(int64_t count) {
    static wire w;
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(listener, (struct sockaddr *)&at, size) != 0 || listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0) {
        die("listen");
    }
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    while (!w.is_wanted) { /* some look first whether anybody listens */
        w = (wire){.fd = accept(listener, NULL, NULL)};
        setsockopt(w.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        while (!w.is_wanted && turn(&w)) {
        }
    }
    double seconds = publish(&w, count);
    printf("%" PRId64 " %.3f\n", count, seconds);
    fflush(stdout);
    while (turn(&w)) { /* until it is stopped */
    }
    return 0;
}

static int load(int port, int64_t count) {
    static wire w = {.version = 4, .window = LOAD_WINDOW};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(w.fd, (struct sockaddr *)&at, sizeof at) != 0) {
        die("connect");
    }
    uint8_t hello[64], *end = put_text(hello + 2, "MQTT");
    static const uint8_t how[] = {4, 2, 0, 60}; /* 3.1.1, clean, keepalive 60 s */
    memcpy(end, how, sizeof how);
    end = put_text(end + sizeof how, "bench-load");
    hello[0] = CONNECT << 4;
    hello[1] = (uint8_t)(end - hello - 2);
    put(&w, hello, (size_t)(end - hello));
    while (!w.is_taken) {
        if (!turn(&w)) {
            die("the broker hung up");
        }
    }
    printf("%" PRId64 " %.3f\n", count, publish(&w, count));
    return 0;
}

/* ---- take ---- */

static struct {
    MQTTAsync client;
    sem_t done;
    int64_t count, got;
    double begin, end, cpu;
} taker;

static int on_message(void *context, char *topic, int topic_size, MQTTAsync_message *message) {
    (void)context;
    (void)topic_size;
    if (taker.got++ == 0) {
        taker.begin = now_s();
        taker.cpu = cpu_s();
    }
    if (taker.got == taker.count) {
        taker.end = now_s();
        sem_post(&taker.done);
    }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void on_failure(void *context, MQTTAsync_failureData5 *data) {
    fprintf(stderr, "mqtt_peer: %s: %s\n", (const char *)context,
            data != NULL && data->message != NULL ? data->message : "refused");
    exit(1);
}

static void on_subscribed(void *context, MQTTAsync_successData5 *data) {
    (void)context;
    (void)data;
    if (taker.count == 0) {
        sem_post(&taker.done);
    }
}

static void on_connected(void *context, MQTTAsync_successData5 *data) {
    (void)context;
    (void)data;
    static char what[] = "subscribe";
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.onSuccess5 = on_subscribed;
    options.onFailure5 = on_failure;
    options.context = what;
    MQTTAsync_subscribe(taker.client, "site/+/device/+/temp", 1, &options);
}

static int take(int port, int64_t count, const char *id) {
    char url[64];
    static char what[] = "connect";
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    taker.count = count;
    sem_init(&taker.done, 0, 0);
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
    if (MQTTAsync_createWithOptions(&taker.client, url, id, MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                    &create) != MQTTASYNC_SUCCESS) {
        die("paho");
    }
    MQTTAsync_setCallbacks(taker.client, NULL, NULL, on_message, NULL);
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
    expiry.value.integer4 = 86400;
    MQTTProperties_add(&properties, &expiry);
    options.cleanstart = 0;
    options.keepAliveInterval = 60;
    options.connectProperties = &properties;
    options.onSuccess5 = on_connected;
    options.onFailure5 = on_failure;
    options.context = what;
    if (MQTTAsync_connect(taker.client, &options) != MQTTASYNC_SUCCESS) {
        die("connect");
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    if (sem_timedwait(&taker.done, &until) != 0) {
        fprintf(stderr, "mqtt_peer: %" PRId64 " of %" PRId64 " came\n", taker.got, count);
        return 1;
    }
    printf("%" PRId64 " %.3f %.3f\n", count, taker.end - taker.begin, cpu_s() - taker.cpu);
    fflush(stdout);
    MQTTAsync_disconnectOptions bye = MQTTAsync_disconnectOptions_initializer5;
    bye.timeout = 1000;
    MQTTAsync_disconnect(taker.client, &bye);
    for (int i = 0; i < 200 && MQTTAsync_isConnected(taker.client); i++) {
        usleep(10000);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "flood") == 0) {
        return flood(strtoll(argv[2], NULL, 10));
    }
    if (argc == 4 && strcmp(argv[1], "load") == 0) {
        return load(atoi(argv[2]), strtoll(argv[3], NULL, 10));
    }
    if (argc == 5 && strcmp(argv[1], "take") == 0) {
        return take(atoi(argv[2]), strtoll(argv[3], NULL, 10), argv[4]);
    }
    fprintf(stderr, "usage: mqtt_peer flood|load|take ... (see the source)\n");
    return 2;
}
