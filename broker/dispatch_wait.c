/* SPDX-License-Identifier: Apache-2.0 */
/* Parked events in memory: which is tried when, and behind which other one (S7, S10).
 *
 * A parked event stands in the list of its cursor, in the chain of its key and, when a time is due
 * for it, in its function's heap. The first of a chain holds back the others. */
#include "broker/dispatch_priv.h"

enum { RELEASE_AT_ONCE = 32 }; /* members of a chain put back into their lane together */

uint64_t hr_chain_key(const function *f, uint64_t key_hash) {
    switch (f->policy.order) {
    case HR_ORDER_KEY:
        return key_hash;
    case HR_ORDER_FEED:
        return 1; /* one chain for all */
    case HR_ORDER_NONE:
        break;
    }
    return 0;
}

/* ---- heap of due times ---- */

static bool is_before(const parked *a, const parked *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->position < b->position;
}

static void heap_put(function *f, size_t index, parked *p) {
    f->heap[index - 1] = p;
    p->heap_index = index;
}

static void heap_up(function *f, size_t index, parked *p) {
    while (index > 1 && is_before(p, f->heap[index / 2 - 1])) {
        heap_put(f, index, f->heap[index / 2 - 1]);
        index /= 2;
    }
    heap_put(f, index, p);
}

static void heap_down(function *f, size_t index, parked *p) {
    for (;;) {
        size_t child = index * 2;
        if (child > f->heap_count) {
            break;
        }
        if (child + 1 <= f->heap_count && is_before(f->heap[child], f->heap[child - 1])) {
            child++;
        }
        if (!is_before(f->heap[child - 1], p)) {
            break;
        }
        heap_put(f, index, f->heap[child - 1]);
        index = child;
    }
    heap_put(f, index, p);
}

/* The event is tried again when it is due. */
void hr_wait_until(function *f, parked *p, int64_t due_ms) {
    HR_ASSERT(p->heap_index == 0);
    p->due_ms = due_ms;
    if (f->heap_count == f->heap_capacity) {
        f->heap_capacity = f->heap_capacity == 0 ? 64 : f->heap_capacity * 2;
        f->heap = hr_realloc(f->heap, f->heap_capacity * sizeof(parked *));
    }
    f->heap_count++;
    heap_up(f, f->heap_count, p);
}

void hr_wait_no_more(function *f, parked *p) {
    if (p->heap_index == 0) {
        return;
    }
    size_t hole = p->heap_index;
    parked *last = f->heap[--f->heap_count];
    p->heap_index = 0;
    if (last != p) {
        heap_down(f, hole, last);
        heap_up(f, last->heap_index, last);
    }
}

/* ---- chains ---- */

static void chain_add(function *f, parked *p) {
    uint64_t key = hr_chain_key(f, p->key_hash);
    if (key == 0) {
        return;
    }
    chain *ch = hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        ch = hr_alloc(sizeof *ch);
        ch->first = p;
        hr_map64_set(&f->chains, key, ch);
    } else {
        ch->last->after = p;
    }
    ch->last = p;
}

static void chain_release(function *f, chain *ch) {
    uint32_t count = 0;
    for (parked *p = ch->first; p != NULL && count < RELEASE_AT_ONCE; p = p->after, count++) {
        if (!p->is_out && p->heap_index == 0) {
            hr_wait_until(f, p, 0);
        }
    }
}

/* Takes it out. If it was the first, the next ones get a due time. */
static void chain_remove(function *f, parked *p, bool is_forgotten) {
    uint64_t key = hr_chain_key(f, p->key_hash);
    chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        return;
    }
    parked *before = NULL;
    parked *at = ch->first;
    while (at != NULL && at != p) {
        before = at;
        at = at->after;
    }
    HR_ASSERT(at == p);
    if (before == NULL) {
        ch->first = p->after;
    } else {
        before->after = p->after;
    }
    if (ch->last == p) {
        ch->last = before;
    }
    p->after = NULL;
    if (ch->first == NULL) {
        hr_map64_remove(&f->chains, key);
        hr_free(ch);
    } else if (before == NULL && (!is_forgotten || ch->first->cursor != p->cursor)) {
        chain_release(f, ch); /* of what is forgotten as a whole nothing is tried */
    }
}

/* Does nothing hold it back? */
bool hr_wait_is_first(const function *f, const parked *p) {
    uint64_t key = hr_chain_key(f, p->key_hash);
    const chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    return ch == NULL || ch->first == p;
}

/* Must the event wait for an earlier one of its key? */
bool hr_park_is_held(const function *f, const item *it) {
    uint64_t key = hr_chain_key(f, it->key_hash);
    const chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        return false;
    }
    if (it->parked == NULL) {
        return true;
    }
    /* all before it must be in the call that is being filled: being fetched is not enough, they
     * might come into the lane behind it */
    const parked *p = ch->first;
    while (p != it->parked && p->is_called) {
        p = p->after;
    }
    return p != it->parked;
}

/* ---- lists of a cursor ---- */

static void list_put(cursor *c, parked *p) {
    if (!p->is_untried) {
        p->before = NULL;
        p->next = c->tried;
        if (p->next != NULL) {
            p->next->before = p;
        }
        c->tried = p;
        return;
    }
    /* by position; they come nearly ascending, or beside the one before */
    parked *at = c->untried_last;
    if (at != NULL && at->position > p->position) {
        at = c->untried_hint;
    }
    while (at != NULL && at->position > p->position) {
        at = at->before;
    }
    parked *next = at == NULL ? c->untried_first : at->next;
    while (next != NULL && next->position < p->position) {
        at = next;
        next = next->next;
    }
    p->before = at;
    p->next = next;
    *(at == NULL ? &c->untried_first : &at->next) = p;
    *(next == NULL ? &c->untried_last : &next->before) = p;
    c->untried_hint = p;
    c->untried++;
}

static void list_take(cursor *c, parked *p) {
    if (p->is_untried) {
        *(p->before == NULL ? &c->untried_first : &p->before->next) = p->next;
        *(p->next == NULL ? &c->untried_last : &p->next->before) = p->before;
        if (c->untried_hint == p) {
            c->untried_hint = p->before != NULL ? p->before : p->next;
        }
        c->untried--;
        return;
    }
    *(p->before == NULL ? &c->tried : &p->before->next) = p->next;
    if (p->next != NULL) {
        p->next->before = p->before;
    }
}

/* ---- life ---- */

parked *hr_parked_new(function *f, cursor *c, uint64_t position, uint64_t key_hash, uint32_t size,
                      bool is_untried) {
    parked *p = hr_alloc(sizeof *p);
    p->cursor = c;
    p->position = position;
    p->key_hash = key_hash;
    p->size = size;
    p->is_untried = is_untried;
    list_put(c, p);
    f->parked_count++;
    f->parked_bytes += size;
    chain_add(f, p);
    return p;
}

/* An attempt of it began. */
void hr_parked_try(parked *p) {
    if (p->is_untried) {
        list_take(p->cursor, p);
        p->is_untried = false;
        list_put(p->cursor, p);
    }
}

static void free_parked(function *f, parked *p, bool is_forgotten) {
    hr_wait_no_more(f, p);
    chain_remove(f, p, is_forgotten);
    list_take(p->cursor, p);
    f->parked_count--;
    f->parked_bytes -= p->size;
    hr_free(p);
}

void hr_parked_free(function *f, parked *p) {
    free_parked(f, p, false);
}

/* Forgets, in memory only, all that is parked of a cursor whose feed comes back or is fenced: the
 * store tells it again. Nothing points at it any more (hr_calls_orphan, hr_park_cancel_fetch). */
void hr_parked_forget(cursor *c) {
    while (c->tried != NULL) { /* first of their chains, mostly */
        free_parked(c->function, c->tried, true);
    }
    while (c->untried_first != NULL) {
        free_parked(c->function, c->untried_first, true);
    }
}
