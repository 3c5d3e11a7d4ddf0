#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo "report for $CE_TIME" >&2
df -P . | tail -1
