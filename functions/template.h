/* SPDX-License-Identifier: Apache-2.0 */
/* Texts for people from events: "{device}: {data.celsius:.1f} °C". Pure. */
#ifndef HR_FUNCTIONS_TEMPLATE_H
#define HR_FUNCTIONS_TEMPLATE_H

#include "core/buffer.h"

/* Appends the template with {NAME} and {data.a.b} put in from the event; {NAME:.2f} prints a number
 * with so many digits (0 to 9); {{ and }} are braces; what is absent prints as nothing. */
void hr_template_print(const char *template, hr_slice envelope, hr_buffer *out);

#endif
