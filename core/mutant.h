/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded faults that the proofs must catch (`./dev prove mutants`). Only a build with the option
 * HEADRACE_MUTANTS contains them; HEADRACE_MUTANT in the environment names the one that is alive.
 */
#ifndef HR_CORE_MUTANT_H
#define HR_CORE_MUTANT_H

#include <stdbool.h>

#ifdef HEADRACE_MUTANTS
/* Is this mutant alive? */
bool hr_mutant(const char *name);
#define HR_MUTANT(name) hr_mutant(name)
#else
#define HR_MUTANT(name) false
#endif

#endif
