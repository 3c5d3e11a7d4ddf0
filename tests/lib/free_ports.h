/* SPDX-License-Identifier: Apache-2.0 */
/* Ports on loopback for the services of a test. */
#ifndef HR_TESTS_FREE_PORTS_H
#define HR_TESTS_FREE_PORTS_H

/* The first of `count` neighbours that nobody has, chosen by chance from first (included) to last
 * (not), so that tests beside each other seldom meet. Fails the test after a thousand tries. Below
 * those that the kernel gives to clients, a service finds its port free again after a restart. */
int free_ports(int first, int last, int count);

#endif
