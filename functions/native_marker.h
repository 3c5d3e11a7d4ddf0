/* SPDX-License-Identifier: Apache-2.0 */
/* Which events an in-process function was handling: a mapped file that outlives a crash of the
 * daemon, so that a crash cannot become a crash loop.
 *
 * A slot a thread. The file needs no fsync: a handler can end the process, not the machine's
 * memory, and after a power cut nobody is to blame.
 * After a crash the events of the slot in which it happened are suspects: a batch is called one by
 * one (S9), an event that was alone is charged the attempt. When no slot saw the crash (SIGKILL by
 * the kernel for want of memory, _exit), all that ran are suspects. */
#ifndef HR_FUNCTIONS_NATIVE_MARKER_H
#define HR_FUNCTIONS_NATIVE_MARKER_H

#include "broker/runtime.h"

typedef struct hr_marker hr_marker;

/* Opens or makes <state_dir>/native/<function>, with the suspects of the last run.
 * Errors: HR_E_IO.  Thread: loop. */
hr_code hr_marker_open(const char *state_dir, const char *function, uint32_t slots,
                       uint32_t batch_size, hr_marker **out_marker, hr_error *err);

/* Unmaps; is_clean: the daemon was stopped in good order, nobody is a suspect any more. NULL is
 * allowed.  Thread: loop. */
void hr_marker_close(hr_marker *take_marker, bool is_clean);

/* Notes that the calling thread begins call in slot, and that it ended.  Thread: the slot's. */
void hr_marker_begin(hr_marker *marker, uint32_t slot, const hr_call *call);
void hr_marker_end(hr_marker *marker, uint32_t slot);

typedef enum hr_verdict {
    HR_VERDICT_RUN,    /* nothing against this call */
    HR_VERDICT_SINGLY, /* it holds several events, one of which is a suspect */
    HR_VERDICT_CHARGE  /* its only event crashed the daemon in this attempt */
} hr_verdict;

/* May this call run? A charge is given once.  Thread: loop. */
hr_verdict hr_marker_judge(hr_marker *marker, const hr_call *call);

/* The suspects of call were handled without a crash.  Thread: loop. */
void hr_marker_clear(hr_marker *marker, const hr_call *call);

/* Suspects left.  Thread: loop. */
uint32_t hr_marker_suspects(const hr_marker *marker);

#endif
