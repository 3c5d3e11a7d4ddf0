/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the store share: folders, batches of small events, waiting by turns. */
#ifndef HR_TESTS_STORE_FIXTURE_H
#define HR_TESTS_STORE_FIXTURE_H

#include "broker/store.h"

/* A fresh folder below TMPDIR; the caller frees it with fixture_remove(). */
char *fixture_dir(void);
void fixture_remove(char *take_dir);

/* A whole file of the folder; one that is not there is empty. out loses what it had. */
void fixture_load(const char *dir, const char *name, hr_buffer *out);
void fixture_save(const char *dir, const char *name, const uint8_t *bytes, size_t size);

/* Options for turns: no loop, no ballast, history kept for ever. */
hr_store_options fixture_options(const char *dir);

/* count events from position on, ids "<feed>-<position>", with data_size bytes of data. */
hr_batch *fixture_batch(uint32_t feed, uint64_t position, uint32_t count, size_t data_size);

/* Is this event what fixture_batch made for its position? */
bool fixture_is_whole(const hr_batch *batch, uint32_t index, size_t data_size);

/* Submits one unit, runs turns until it ended, gives its result. */
hr_code fixture_commit(hr_store *store, hr_unit *unit);
/* An intake unit of one batch, which is freed. */
hr_code fixture_append(hr_store *store, uint32_t feed, hr_batch *take_batch);
/* Runs turns until the read ended. */
void fixture_read(hr_store *store, hr_read *read);

#endif
