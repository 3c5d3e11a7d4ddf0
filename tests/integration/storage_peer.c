/* SPDX-License-Identifier: Apache-2.0 */
/* The storage trigger behind its server with nothing else of the daemon: what it offers is printed
 * as CloudEvents JSON, one a line ("reject WHY", "gauge NAME VALUE" for the rest), and is durable
 * after DELAY_MS.
 *
 *   storage_peer PORT TOKEN REFUSE DELAY_MS
 *
 * PORT 0 takes a free one; the first line is "port N". The first REFUSE offers are refused. Ends
 * with SIGTERM. */
#include "broker/trigger.h"
#include "core/envelope.h"
#include "core/memory.h"
#include "net/http_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static hr_loop *loop;
static hr_trigger *trigger;
static hr_timer *timer;
static uint64_t last_ticket, answered;
static long refuse, delay_ms;

static void settle(void *data) {
    (void)data;
    while (answered < last_ticket) {
        answered++;
        if (refuse > 0) {
            refuse--;
            trigger->ops->refused(trigger, answered, answered, HR_E_STORE_FULL);
        } else {
            trigger->ops->durable(trigger, answered);
        }
    }
}

static void offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    (void)self;
    last_ticket = ticket;
    hr_buffer line = {0};
    for (uint32_t i = 0; i < take_batch->count && refuse == 0; i++) {
        line.size = 0;
        hr_envelope_print_json(hr_batch_envelope(take_batch, i), &line);
        puts(hr_buffer_text(&line));
    }
    fflush(stdout);
    hr_buffer_fini(&line);
    hr_batch_unref(take_batch);
    hr_timer_start(timer, (uint64_t)delay_ms, 0);
}

static void reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    (void)self;
    (void)raw;
    last_ticket = ticket;
    printf("reject %s\n", why);
    fflush(stdout);
    hr_timer_start(timer, (uint64_t)delay_ms, 0);
}

static void state(hr_trigger *self, hr_trigger_up up, const char *reason) {
    (void)self;
    (void)up;
    (void)reason;
}

static void gauge(hr_trigger *self, const char *name, int64_t value) {
    (void)self;
    printf("gauge %s %lld\n", name, (long long)value);
    fflush(stdout);
}

static void stopped(hr_trigger *self) {
    (void)self;
    hr_loop_stop(loop);
}

static void on_signal(void *data, int signal) {
    (void)data;
    (void)signal;
    settle(NULL);
    trigger->ops->stop(trigger);
}

int main(int count, char **words) {
    if (count != 5) {
        return 2;
    }
    static const hr_trigger_host host = {
        .offer = offer, .reject = reject, .state = state, .gauge = gauge, .stopped = stopped};
    char *listen = hr_format("127.0.0.1:%s", words[1]);
    refuse = strtol(words[3], NULL, 10);
    delay_ms = strtol(words[4], NULL, 10);
    loop = hr_loop_new();
    timer = hr_timer_new(loop, settle, NULL);
    hr_http_options options = {.listen = listen};
    hr_http_server *server = hr_http_server_new(loop, &options);
    hr_node *config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *kind = hr_node_add(config, HR_NODE_MAP, "storage");
    hr_node_add_text(kind, "kind", "minio", 0);
    hr_node_add_text(kind, "token", words[2], 0);
    const hr_trigger_ops *ops = hr_trigger_kind("storage");
    HR_ASSERT(ops != NULL);
    trigger = hr_alloc(ops->object_size);
    *trigger = (hr_trigger){.ops = ops,
                            .host = &host,
                            .loop = loop,
                            .http = server,
                            .name = "uploads",
                            .config = config,
                            .kind_config = kind};
    hr_error err = {0};
    if (ops->init(trigger, &err) != HR_OK || ops->start(trigger, &err) != HR_OK ||
        hr_http_server_start(server, &err) != HR_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("port %d\n", hr_http_server_port(server));
    fflush(stdout);
    hr_loop_signal(loop, SIGTERM, on_signal, NULL);
    hr_loop_run(loop);
    hr_http_server_free(server);
    ops->fini(trigger);
    hr_free(trigger);
    hr_timer_free(timer);
    hr_loop_free(loop);
    hr_node_free(config);
    hr_free(listen);
    return 0;
}
