#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh PEER: the official CloudEvents SDK for Go against our envelopes, in both directions.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
go=$("$here/../lib/go.sh")
export HEADRACE_PEER=$1
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
cd "$here/go"
exec "$go" test -count=1 ./...
