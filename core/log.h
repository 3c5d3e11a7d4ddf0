/* SPDX-License-Identifier: Apache-2.0 */
/* One line a record on stderr: time, level, component, text. Control characters of foreign text are
 * escaped, repeats of one line are counted instead of printed.  Thread: any. */
#ifndef HR_CORE_LOG_H
#define HR_CORE_LOG_H

typedef enum hr_level { HR_LOG_DEBUG, HR_LOG_INFO, HR_LOG_WARN, HR_LOG_ERROR } hr_level;

/* Nothing below level is printed; the default is HR_LOG_INFO. */
void hr_log_set_level(hr_level level);

/* component: the word for who speaks: "store", "trigger temps", "function hot". */
void hr_log(hr_level level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
