/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the daemon as text for people, on stdout. Foreign text is printed without control
 * characters.  Thread: one. */
#ifndef HR_APP_SHOW_H
#define HR_APP_SHOW_H

#include <jansson.h>

void hr_show_note(const json_t *note);        /* one line of tap, demo and trace */
void hr_show_status(const json_t *status);    /* the tables of status */
void hr_show_trace(const json_t *trace);      /* the life of one event */
void hr_show_logs(const json_t *answer);      /* handler lines */
void hr_show_dead_list(const json_t *answer); /* dlq ls */
void hr_show_dead(const json_t *dead);        /* dlq show */
void hr_show_checkpoints(const json_t *answer);
void hr_show_ended(const json_t *answer); /* dlq replay, dlq drop */

#endif
