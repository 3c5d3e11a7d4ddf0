/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that take too long: one that sends a byte now and then would hold its place for ever. And
 * when all places are taken, whoever kept us waiting longest makes room: no number of them shuts
 * out the others. All of it on the server's thread. */
#include "core/log.h"
#include "net/http_server_priv.h"

enum { BODY_TIMES = 10, BODY_BYTE_NS = 1000000, LOOK_MAX = 64 };

static uint64_t after(uint32_t seconds) {
    return hr_mono_ns() + seconds * UINT64_C(1000000000);
}

/* A peer sends its header lines at once, an idle connection may wait for its next request. */
static uint32_t header_s(const hr_http_server *server) {
    return server->timeout_s < 3 ? 1 : server->timeout_s / 3;
}

/* ---- the list, in the order in which they last came or were done ---- */

static void add_newest(hr_http_server *server, hr_http_peer *peer) {
    peer->newer = NULL;
    peer->older = server->newest;
    *(peer->older == NULL ? &server->oldest : &peer->older->newer) = peer;
    server->newest = peer;
}

static void take_out(hr_http_server *server, hr_http_peer *peer) {
    *(peer->newer == NULL ? &server->newest : &peer->newer->older) = peer->older;
    *(peer->older == NULL ? &server->oldest : &peer->older->newer) = peer->newer;
}

void hr_http_peer_add(hr_http_server *server, hr_http_peer *peer) {
    add_newest(server, peer);
    server->peer_count++;
    if (!server->is_looking) {
        uint64_t every_ms = (uint64_t)server->timeout_s * 100;
        server->is_looking = true;
        hr_timer_start(server->slow, every_ms, every_ms);
    }
}

void hr_http_peer_remove(hr_http_server *server, hr_http_peer *peer) {
    take_out(server, peer);
    server->peer_count--;
}

static void end(hr_http_peer *peer) {
    hr_http_peer_close(peer);
    hr_http_peer_settle(peer);
}

void hr_http_make_room(hr_http_server *server, uint32_t places) {
    for (int i = 0; i < LOOK_MAX && server->peer_count > places; i++) {
        hr_http_peer *oldest = server->oldest;
        if (oldest->deadline_ns != 0) {
            end(oldest);
            server->ended_early++;
        } else { /* waits for us: it is not to blame */
            take_out(server, oldest);
            add_newest(server, oldest);
        }
    }
}

/* ---- deadlines ---- */

void hr_http_expect(hr_http_peer *peer, hr_http_waiting what) {
    hr_http_server *server = peer->request.server;
    switch (what) {
    case HR_HTTP_WAIT_HEAD:
        peer->deadline_ns = after(header_s(server));
        break;
    case HR_HTTP_WAIT_BODY:
        peer->body_end_ns = after(BODY_TIMES * server->timeout_s);
        peer->deadline_ns = after(server->timeout_s);
        break;
    case HR_HTTP_WAIT_NEXT:
        peer->deadline_ns = after(server->timeout_s);
        take_out(server, peer);
        add_newest(server, peer);
        break;
    case HR_HTTP_WAIT_NONE:
        peer->deadline_ns = 0;
        break;
    }
}

void hr_http_came(hr_http_peer *peer, uint64_t bytes) {
    uint64_t deadline_ns = peer->deadline_ns + bytes * BODY_BYTE_NS;
    peer->deadline_ns = deadline_ns < peer->body_end_ns ? deadline_ns : peer->body_end_ns;
}

void hr_http_end_slow(void *data) {
    hr_http_server *server = data;
    uint64_t now_ns = hr_mono_ns();
    for (hr_http_peer *at = server->oldest, *next; at != NULL; at = next) {
        next = at->newer;
        if (at->deadline_ns != 0 && at->deadline_ns < now_ns) {
            end(at);
        }
    }
    if (server->ended_early > 0) {
        hr_log(HR_LOG_WARN, "http",
               "%llu connections that kept us waiting longest were ended to make room: %u at once "
               "are too many here (limit of open files, ulimit -n)",
               (unsigned long long)server->ended_early, (unsigned)server->peer_max);
        server->ended_early = 0;
    }
    if (server->oldest == NULL) { /* an idle daemon does not wake up */
        hr_timer_stop(server->slow);
        server->is_looking = false;
    }
}
