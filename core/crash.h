/* SPDX-License-Identifier: Apache-2.0 */
/* Named crash points: places where the process may die and nothing may be lost (`./dev prove
 * points`). Only a build with the option HEADRACE_MUTANTS contains them. */
#ifndef HR_CORE_CRASH_H
#define HR_CORE_CRASH_H

#ifdef HEADRACE_MUTANTS
/* With HEADRACE_CRASH=name:N in the environment the process ends by SIGKILL the Nth time that it
 * comes to the point of this name. From any thread. */
void hr_crash_point(const char *name);
#define HR_CRASH_POINT(name) hr_crash_point(name)
#else
#define HR_CRASH_POINT(name) ((void)0)
#endif

#endif
