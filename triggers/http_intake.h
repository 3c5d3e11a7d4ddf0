/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on their way to the disk: the events of one request are one unit, which is answered when
 * all of it is durable. What small requests bring while a group of them is on its way to the disk
 * is the next group, one batch, so that a hundred of them cost one unit of the store, one call and
 * one answer. Shared by webhook and storage.
 *
 * Life:  init -> (admit -> begin -> (pack | add | reject)* -> commit | abort)* -> stop -> fini
 * Rule:  a 2xx that stands for events leaves only in hr_intake_durable(). */
#ifndef HR_TRIGGERS_HTTP_INTAKE_H
#define HR_TRIGGERS_HTTP_INTAKE_H

#include "broker/trigger.h"
#include "core/envelope.h"
#include "net/http_server.h"

typedef struct hr_intake_unit hr_intake_unit;

/* Where a dialect puts its events: a builder, and what to do when it is full. */
typedef struct hr_sink {
    hr_builder *builder;
    void (*full)(struct hr_sink *self); /* empties the builder; NULL: full is an error */
} hr_sink;

/* Packs or adds one event. Errors: HR_E_MALFORMED (also for what hr_envelope_pack calls invalid:
 * a stranger wrote it), HR_E_TOO_LARGE.  Thread: loop. */
hr_code hr_sink_pack(hr_sink *sink, const hr_fields *fields, hr_error *err);
hr_code hr_sink_add(hr_sink *sink, hr_slice envelope, hr_error *err);

/* Groups on their way to the disk for which small requests wait; what fills one goes whatever is on
 * its way. */
enum { HR_INTAKE_FLIGHTS = 3 };

typedef struct hr_intake {
    hr_trigger *trigger;
    uint64_t ticket;              /* the last one given out */
    hr_intake_unit *first, *last; /* committed and not yet answered, ascending */
    hr_builder reading;           /* events of the request in hand */
    hr_builder group;             /* events of committed ones, to be offered with ticket + 1 */
    uint32_t gathered;            /* requests in the group */
    uint64_t offered[HR_INTAKE_FLIGHTS], offer_count; /* tickets of the last groups */
    uint64_t settled;                                 /* durable or refused up to here */
    hr_message turn; /* offers the group; deferred when is_turning */
    bool is_turning;
    bool is_shut; /* want(0) */
    bool is_stopping, has_stopped;
    int64_t unauthorized, malformed, refused, ignored;
} hr_intake;

/* hr_trigger_ops.load of what takes requests: digests, for keys. */
hr_code hr_intake_load(const hr_node *kind_config, hr_error *err);

/* Everything here runs on the loop. */
void hr_intake_init(hr_intake *intake, hr_trigger *trigger);

/* Answers what is no delivery: probes (GET, HEAD: 200), the CloudEvents handshake (OPTIONS), other
 * methods (405), anything while intake is shut (503). true: a POST to go on with. */
bool hr_intake_admit(hr_intake *intake, hr_http_request *request);

/* A unit for the request, to be filled through hr_intake_sink() and given back by commit or abort
 * before the next one begins. */
hr_intake_unit *hr_intake_begin(hr_intake *intake, hr_http_request *request);
hr_sink *hr_intake_sink(hr_intake_unit *unit);

/* Raw input that is to become a dead letter of the trigger; both are copied (raw: its head). */
void hr_intake_reject(hr_intake_unit *unit, hr_slice raw, const char *why);

/* Offers the unit. Nothing in it: answered 200 at once. Else 202 with the ids once durable. */
void hr_intake_commit(hr_intake_unit *take_unit);

/* Drops the unit and answers with one line; text without its line end. */
void hr_intake_abort(hr_intake_unit *take_unit, int status, const char *text);

/* Answers with one line. */
void hr_intake_say(hr_http_request *request, int status, const char *text);

/* Counts and answers 401. */
void hr_intake_unauthorized(hr_intake *intake, hr_http_request *request, const char *why);

/* The trigger's slots of the same names. stop calls host->stopped when nothing waits. */
void hr_intake_durable(hr_intake *intake, uint64_t up_to_ticket);
void hr_intake_refused(hr_intake *intake, uint64_t first, uint64_t last, hr_code why);
void hr_intake_want(hr_intake *intake, uint32_t events);
void hr_intake_stop(hr_intake *intake);
void hr_intake_fini(hr_intake *intake);

enum { HR_INTAKE_ID = 33, HR_INTAKE_HEAD = 64 << 10 };

/* A fresh id that sorts by time: 32 hex characters in the order of a UUIDv7. */
void hr_intake_new_id(char out[HR_INTAKE_ID]);

#endif
