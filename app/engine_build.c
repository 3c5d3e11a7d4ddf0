/* SPDX-License-Identifier: Apache-2.0 */
/* From the configuration and the store to feeds, functions and triggers of the dispatcher. */
#include "app/engine_priv.h"
#include "core/log.h"

/* ---- triggers ---- */

/* How old a checkpoint may be in the file when nothing else is written (S14): what a crash then
 * repeats is 10 ms of events, and a commit takes many calls along. */
static const uint64_t checkpoint_ns = 10000000;

static const hr_node *kind_of(const hr_node *map, bool is_trigger, const char **out_kind) {
    for (const hr_node *child = map->child; child != NULL; child = child->next) {
        const char *key = child->key;
        if (is_trigger ? hr_trigger_kind(key) != NULL : hr_runtime_kind(key) != NULL) {
            *out_kind = key;
            return child;
        }
    }
    return NULL;
}

static hr_code compile(hr_engine *e, const char *name, const char *key, const char *text,
                       hr_expression **out, hr_error *err) {
    int offset = -1;
    if (text != NULL && hr_sql_compile(e->sql, text, out, &offset, err) != HR_OK) {
        return hr_wrap(err, "%s of '%s'", key, name);
    }
    return HR_OK;
}

static hr_code build_trigger(hr_engine *e, engine_trigger *t, hr_error *err) {
    const hr_node *value = kind_of(t->config, true, &t->kind);
    if (value == NULL) {
        return hr_fail(err, HR_E_CONFIG, 0, "trigger '%s' has no kind this version knows", t->name);
    }
    const hr_trigger_ops *ops = hr_trigger_kind(t->kind);
    t->is_pull = ops->settled != NULL;
    t->object = hr_alloc(ops->object_size);
    *t->object = (hr_trigger){.ops = ops,
                              .host = &hr_engine_trigger_host,
                              .loop = e->loop,
                              .http = e->http,
                              .name = t->name,
                              .config = t->config,
                              .kind_config = value,
                              .state_dir = e->options.state_dir,
                              .store_id = hr_store_id(e->store),
                              .kept_us = INT64_MIN,
                              .index = (uint32_t)(t - e->triggers),
                              .host_data = e->triggers};
    hr_code code = compile(e, t->name, "key", hr_node_text(t->config, "key", NULL), &t->key, err);
    const hr_node *dedupe = hr_node_get(t->config, "dedupe");
    if (code == HR_OK) {
        code =
            compile(e, t->name, "dedupe.by", hr_node_text(dedupe, "by", NULL), &t->dedupe_by, err);
    }
    return code;
}

static bool dedupes(const engine_trigger *t) {
    return t->dedupe_by != NULL ||
           (!t->is_pull && (strcmp(t->kind, "webhook") == 0 || strcmp(t->kind, "storage") == 0));
}

static void load_seen(void *data, uint32_t feed, int64_t at_ms, hr_slice hashes) {
    (void)feed; /* one is asked for */
    hr_dedupe_load(data, at_ms, hashes);
}

hr_code hr_engine_add_journal(hr_engine *e, uint32_t id, engine_trigger *t, bool has_replays,
                              hr_error *err) {
    known_feed *known = hr_engine_known_feed(e, id);
    hr_feed_policy policy = {.id = id,
                             .next = known == NULL || known->next == 0 ? 1 : known->next,
                             .unsettled_bytes = known == NULL ? 0 : known->unsettled,
                             .max_bytes = e->feed_quota,
                             .has_replays = has_replays,
                             .has_hops = t == NULL};
    if (known != NULL) {
        policy.counters = known->counters;
    }
    if (t != NULL && dedupes(t)) {
        const hr_node *dedupe = hr_node_get(t->config, "dedupe");
        policy.take_dedupe = hr_dedupe_new((uint32_t)hr_node_number(dedupe, "max", 1000000),
                                           hr_node_number(dedupe, "window", INT64_C(3) * 86400000));
        if (t->dedupe_by != NULL) {
            hr_sql_identify_init(&t->identify, t->dedupe_by);
            policy.identify = &t->identify.base;
        }
        hr_store_loader loader = {.data = policy.take_dedupe, .seen = load_seen};
        hr_code code = hr_store_load(e->store, id, &loader, err);
        if (code != HR_OK) {
            hr_dedupe_free(policy.take_dedupe);
            return code;
        }
    }
    hr_dispatch_add_feed(e->dispatch, &policy);
    if (known != NULL) {
        known->is_added = true;
    }
    return HR_OK;
}

/* ---- functions ---- */

static hr_order order_of(const hr_node *config) {
    const char *order = hr_node_text(config, "order", "key");
    return strcmp(order, "none") == 0   ? HR_ORDER_NONE
           : strcmp(order, "feed") == 0 ? HR_ORDER_FEED
                                        : HR_ORDER_KEY;
}

static hr_retry retry_of(const hr_node *config) {
    const hr_node *retry = hr_node_get(config, "retry");
    const hr_node *backoff = hr_node_get(retry, "backoff");
    bool blocks = strcmp(hr_node_text(config, "on_exhausted", "dead"), "block") == 0;
    return (hr_retry){.attempts = blocks ? 0 : (uint32_t)hr_node_number(retry, "attempts", 5),
                      .min_ms = hr_node_number(backoff, "min", 1000),
                      .max_ms = hr_node_number(backoff, "max", 300000),
                      .max_age_ms = hr_node_number(retry, "max_age", INT64_C(6) * 3600000)};
}

static char *folder_of(const char *file) {
    const char *slash = file == NULL ? NULL : strrchr(file, '/');
    return slash == NULL ? hr_copy_text(".") : hr_copy_bytes(file, (size_t)(slash - file));
}

/* Lanes beyond the workers that empty them would only cut the batches of each call. */
static uint32_t lanes_of(const hr_node *config) {
    int64_t lanes = hr_node_number(config, "concurrency", 16);
    int64_t workers = hr_node_number(config, "workers", lanes); /* absent: the kind has none */
    return (uint32_t)(workers < lanes ? workers : lanes);
}

/* First pass: the handler's object. */
static hr_code build_function(hr_engine *e, engine_function *f, hr_error *err) {
    const hr_node *value = kind_of(f->config, false, &f->kind);
    if (value == NULL) {
        return hr_fail(err, HR_E_CONFIG, 0, "function '%s' has no handler this version knows",
                       f->name);
    }
    const hr_runtime_ops *ops = hr_runtime_kind(f->kind);
    f->config_dir = folder_of(f->config->file);
    f->object = hr_alloc(ops->object_size);
    const hr_node *batch = hr_node_get(f->config, "batch");
    *f->object = (hr_runtime){.ops = ops,
                              .host = &hr_engine_runtime_host,
                              .loop = e->loop,
                              .name = f->name,
                              .config = f->config,
                              .kind_config = value,
                              .config_dir = f->config_dir,
                              .state_dir = e->options.state_dir,
                              .version = 1,
                              .timeout_ms = (uint32_t)hr_node_number(f->config, "timeout", 30000),
                              .batch_size = (uint32_t)hr_node_number(batch, "size", 1),
                              .concurrency = lanes_of(f->config),
                              .index = (uint32_t)(f - e->functions),
                              .host_data = e->functions};
    return HR_OK;
}

/* Second pass: whom it takes from; who is taken from has a feed for its results. */
static hr_code link_function(hr_engine *e, engine_function *f, hr_error *err) {
    const hr_node *cursor = NULL;
    for (const char *from = hr_node_each_text(f->config, "from", &cursor); from != NULL;
         from = hr_node_each_text(f->config, "from", &cursor)) {
        engine_trigger *t = hr_engine_trigger(e, from);
        engine_function *source = hr_engine_function(e, from);
        if (t != NULL) {
            f->triggers = hr_realloc(f->triggers, (f->trigger_count + 1) * sizeof(void *));
            f->triggers[f->trigger_count++] = t;
        } else if (source != NULL) {
            f->functions = hr_realloc(f->functions, (f->function_count + 1) * sizeof(void *));
            f->functions[f->function_count++] = source;
            source->object->has_takers = true;
        } else {
            return hr_fail(err, HR_E_CONFIG, 0, "function '%s': no trigger or function '%s'",
                           f->name, from);
        }
    }
    return HR_OK;
}

/* What is to be numbered, and where the number goes. */
typedef struct identities {
    hr_store_name *names;
    char **texts;
    uint32_t **numbers;
    size_t count;
} identities;

static void identify(identities *all, const char *kind, char *take_text, const char *was,
                     uint32_t *number) {
    all->names[all->count] = (hr_store_name){.kind = kind, .name = take_text, .was = was};
    all->texts[all->count] = take_text;
    all->numbers[all->count++] = number;
}

/* Everything's identity in the store, in one commit. */
static hr_code number_all(hr_engine *e, hr_error *err) {
    size_t most = e->trigger_count + 3 * e->function_count + 1;
    identities all = {.names = hr_alloc_array(most, sizeof *all.names),
                      .texts = hr_alloc_array(most, sizeof *all.texts),
                      .numbers = hr_alloc_array(most, sizeof *all.numbers)};
    for (size_t i = 0; i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (!t->is_pull) {
            identify(&all, "journal", hr_format("trigger/%s", t->name), NULL, &t->feed);
        }
    }
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        identify(&all, "function", hr_copy_text(f->name), hr_node_text(f->config, "was", NULL),
                 &f->id);
        identify(&all, "journal", hr_format("inject/%s", f->name), NULL, &f->inject_feed);
    }
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        if (f->object->has_takers) {
            identify(&all, "journal", hr_format("function/%s", f->name), NULL, &f->result_feed);
        }
    }
    hr_code code = hr_store_number(e->store, all.names, all.count, err);
    for (size_t i = 0; i < all.count; i++) {
        *all.numbers[i] = all.names[i].number;
        hr_free(all.texts[i]);
    }
    hr_free(all.names);
    hr_free(all.texts);
    hr_free(all.numbers);
    return code;
}

/* One cursor: where the checkpoint stands, or where a new function begins (S21). */
void hr_engine_take(hr_engine *e, engine_function *f, uint32_t feed, bool is_pull,
                    bool from_start) {
    known_checkpoint *known = NULL;
    for (size_t i = 0; i < e->checkpoint_count; i++) {
        if (e->checkpoints[i].function == f->id && e->checkpoints[i].feed == feed) {
            known = &e->checkpoints[i];
        }
    }
    if (known != NULL) {
        known->is_taken = true;
        hr_dispatch_take(e->dispatch, f->id, feed, known->low, known->low,
                         hr_slice_of(known->settled.bytes, known->settled.size), &known->counters);
        return;
    }
    known_feed *from = hr_engine_known_feed(e, feed);
    hr_counters counters = {0};
    uint64_t start = from == NULL || from->next == 0 ? 1 : from->next;
    if (from_start) {
        start = 1;
    }
    hr_dispatch_take(e->dispatch, f->id, feed, 0, is_pull ? 0 : start, (hr_slice){0}, &counters);
}

static hr_code dispatch_function(hr_engine *e, engine_function *f, hr_error *err) {
    const char *when = hr_node_text(f->config, "when", NULL);
    const char *key = hr_node_text(f->config, "key", NULL);
    if (hr_sql_matcher_init(&f->matcher, e->sql, f->name, when, key, err) != HR_OK) {
        return err->code;
    }
    for (size_t i = 0; i < f->trigger_count; i++) {
        if (!f->triggers[i]->is_pull && f->triggers[i]->key != NULL) {
            hr_sql_matcher_feed_key(&f->matcher, f->triggers[i]->feed, f->triggers[i]->key);
        }
    }
    f->has_matcher = when != NULL || f->matcher.base.keys != NULL;
    const hr_node *settings = hr_node_get(e->options.config, "settings");
    hr_function_policy policy = {
        .name = f->name,
        .id = f->id,
        .version = f->object->version,
        .lanes = f->object->concurrency,
        .order = order_of(f->config),
        .batch_size = f->object->batch_size,
        .batch_window_ms = (uint32_t)hr_node_number(hr_node_get(f->config, "batch"), "window", 0),
        .timeout_ms = f->object->timeout_ms,
        .retry = retry_of(f->config),
        .matcher = f->has_matcher ? &f->matcher.base : NULL,
        .result_feed = f->result_feed,
        .parked_max_bytes = (uint64_t)hr_node_number(hr_node_get(settings, "parked"), "max_bytes",
                                                     INT64_C(1) << 30),
        .max_hops = (uint32_t)hr_node_number(f->config, "max_hops", 16)};
    hr_dispatch_add_function(e->dispatch, &policy);
    bool earliest = strcmp(hr_node_text(f->config, "start", "latest"), "earliest") == 0;
    for (size_t i = 0; i < f->trigger_count; i++) {
        if (!f->triggers[i]->is_pull) {
            hr_engine_take(e, f, f->triggers[i]->feed, false, earliest);
        }
    }
    for (size_t i = 0; i < f->function_count; i++) {
        hr_engine_take(e, f, f->functions[i]->result_feed, false, earliest);
    }
    hr_engine_take(e, f, f->inject_feed, false, false);
    return f->object->ops->init(f->object, err);
}

/* ---- all ---- */

static size_t list(const hr_node *map, size_t size, void **out) {
    size_t count = hr_node_count(map);
    *out = hr_alloc_array(count == 0 ? 1 : count, size);
    return count;
}

static hr_code build_http(hr_engine *e, hr_error *err) {
    (void)err;
    const hr_node *settings = hr_node_get(e->options.config, "settings");
    bool needs = false;
    for (size_t i = 0; i < e->trigger_count; i++) {
        needs = needs || hr_node_get(e->triggers[i].config, "webhook") != NULL ||
                hr_node_get(e->triggers[i].config, "storage") != NULL;
    }
    if (!needs) {
        return HR_OK;
    }
    const hr_node *tls = hr_node_get(settings, "tls");
    hr_http_options options = {.listen = e->options.listen != NULL
                                             ? e->options.listen
                                             : hr_node_text(settings, "listen", HR_LISTEN),
                               .tls_cert = hr_node_text(tls, "cert", NULL),
                               .tls_key = hr_node_text(tls, "key", NULL)};
    hr_listener *listener = e->options.listener;
    if (listener != NULL && listener->fd >= 0 && strcmp(listener->address, options.listen) == 0) {
        options.take_fd = listener->fd;
        listener->fd = -1;
    }
    e->http = hr_http_server_new(e->loop, &options);
    return HR_OK;
}

static hr_code build_feeds(hr_engine *e, hr_error *err) {
    hr_code code = hr_engine_load(e, 0, err);
    size_t journals = e->trigger_count + 2 * e->function_count;
    const hr_node *journal = hr_node_get(hr_node_get(e->options.config, "settings"), "journal");
    uint64_t max = (uint64_t)hr_node_number(journal, "max_bytes", INT64_C(10) << 30);
    e->feed_quota = max / (journals == 0 ? 1 : journals);
    const hr_node *dead = hr_node_get(hr_node_get(e->options.config, "settings"), "dead");
    e->dead_max = strcmp(hr_node_text(dead, "on_full", "stop"), "stop") == 0
                      ? (uint64_t)hr_node_number(dead, "max_count", 100000)
                      : 0;
    hr_dispatch_options options = {.note = hr_history_note,
                                   .note_data = e->history,
                                   .dead_count = e->dead_count,
                                   .dead_max = e->dead_max,
                                   .checkpoint_ns = checkpoint_ns};
    e->dispatch = hr_dispatch_new(&options);
    for (size_t i = 0; code == HR_OK && i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (!t->is_pull) {
            code = hr_engine_add_journal(e, t->feed, t, false, err);
            known_feed *known = hr_engine_known_feed(e, t->feed);
            t->object->kept_us = known == NULL ? INT64_MIN : known->last_fire_us;
        }
    }
    for (size_t i = 0; code == HR_OK && i < e->function_count; i++) {
        code = hr_engine_add_journal(e, e->functions[i].inject_feed, NULL, true, err);
        if (code == HR_OK && e->functions[i].result_feed != 0) {
            code = hr_engine_add_journal(e, e->functions[i].result_feed, NULL, false, err);
        }
    }
    return code;
}

/* The same for the same set of names, in whatever order they stand. */
static void tell_takers(hr_engine *e) {
    for (size_t i = 0; i < e->function_count; i++) {
        const engine_function *f = &e->functions[i];
        for (size_t k = 0; k < f->trigger_count; k++) {
            f->triggers[k]->object->takers += hr_hash(hr_slice_text(f->name));
        }
    }
}

hr_code hr_engine_build(hr_engine *e, hr_error *err) {
    const hr_node *triggers = hr_node_get(e->options.config, "triggers");
    const hr_node *functions = hr_node_get(e->options.config, "functions");
    e->trigger_count = list(triggers, sizeof *e->triggers, (void **)&e->triggers);
    e->function_count = list(functions, sizeof *e->functions, (void **)&e->functions);
    size_t at = 0;
    for (const hr_node *n = triggers == NULL ? NULL : triggers->child; n != NULL; n = n->next) {
        e->triggers[at++] = (engine_trigger){.engine = e, .config = n, .name = n->key};
    }
    at = 0;
    for (const hr_node *n = functions == NULL ? NULL : functions->child; n != NULL; n = n->next) {
        e->functions[at++] = (engine_function){.engine = e, .config = n, .name = n->key};
    }
    e->sql = hr_sql_new();
    hr_code code = build_http(e, err);
    for (size_t i = 0; code == HR_OK && i < e->trigger_count; i++) {
        code = build_trigger(e, &e->triggers[i], err);
    }
    for (size_t i = 0; code == HR_OK && i < e->function_count; i++) {
        code = build_function(e, &e->functions[i], err);
    }
    for (size_t i = 0; code == HR_OK && i < e->function_count; i++) {
        code = link_function(e, &e->functions[i], err);
    }
    tell_takers(e);
    code = code == HR_OK ? number_all(e, err) : code;
    code = code == HR_OK ? build_feeds(e, err) : code;
    for (size_t i = 0; code == HR_OK && i < e->function_count; i++) {
        code = dispatch_function(e, &e->functions[i], err);
    }
    code = code == HR_OK ? hr_engine_build_left(e, err) : code;
    for (size_t i = 0; code == HR_OK && i < e->parked_count; i++) {
        hr_dispatch_load_parked(e->dispatch, &e->parked[i]);
    }
    for (size_t i = 0; code == HR_OK && i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        code = t->object->ops->init(t->object, err);
        if (code != HR_OK) {
            hr_wrap(err, "trigger '%s'", t->name);
        }
    }
    return code;
}

void hr_engine_unbuild(hr_engine *e) {
    for (size_t i = 0; i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (t->object != NULL) {
            t->object->ops->fini(t->object);
        }
        hr_free(t->object);
        hr_expression_free(t->key);
        hr_expression_free(t->dedupe_by);
        hr_free(t->pull_feeds);
    }
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        if (f->object != NULL) {
            f->object->ops->fini(f->object);
        }
        hr_free(f->object);
        hr_sql_matcher_fini(&f->matcher);
        hr_free(f->config_dir);
        hr_free(f->triggers);
        hr_free(f->functions);
    }
    hr_dispatch_free(e->dispatch);
    hr_http_server_free(e->http);
    hr_sql_free(e->sql);
    for (size_t i = 0; i < e->feed_count; i++) {
        hr_free(e->feeds[i].identity);
    }
    for (size_t i = 0; i < e->checkpoint_count; i++) {
        hr_buffer_fini(&e->checkpoints[i].settled);
    }
    hr_free(e->feeds);
    hr_free(e->checkpoints);
    hr_free(e->parked);
    for (size_t i = 0; i < e->removed_count; i++) {
        hr_free(e->removed[i].name);
    }
    hr_free(e->removed);
    hr_free(e->triggers);
    hr_free(e->functions);
}
