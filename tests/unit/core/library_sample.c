/* SPDX-License-Identifier: Apache-2.0 */
/* A library for test_library.c to load. */
#include <stdio.h>

int library_sample_width(int number);

/* By a library that this one brings along. */
int library_sample_width(int number) {
    return snprintf(NULL, 0, "%d", number);
}
