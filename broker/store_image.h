/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a damaged database with its WAL in it; nothing of the damaged one is touched. */
#ifndef HR_BROKER_STORE_IMAGE_H
#define HR_BROKER_STORE_IMAGE_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    STORE_IMAGE_PAGES = 1 << 28, /* 4 TiB: a number above it was never one */
    STORE_IMAGE_SLACK = 1 << 16  /* pages that a file may lack */
};

typedef struct store_image_files {
    const char *database, *wal, *mark; /* read; may be missing */
    const char *out;                   /* written over */
} store_image_files;

typedef struct store_image_report {
    uint32_t mended_pages, mended_frames; /* of which a flipped bit was turned back */
    uint32_t damaged_pages, damaged_page; /* left as they are, and the first of them */
    uint32_t missing_pages;               /* behind the end of a file that was cut */
    uint32_t broken_frames;               /* of the WAL, not mended */
    uint64_t broken_at;                   /* the byte of the first; 0: none */
    uint32_t missing_frames;              /* that the WAL was known to have */
    bool is_moved;                        /* the WAL was in the file already: not looked at */
    bool is_wal_unread;
} store_image_report;

/* Errors: HR_E_STORE_IO, HR_E_STORE_CORRUPT (nothing can be saved).  Thread: any. */
hr_code hr_store_image(const store_image_files *files, store_image_report *out_report,
                       hr_error *err);

#endif
