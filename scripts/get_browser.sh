#!/usr/bin/env bash
# Chromium and its driver for the test that opens the book: taken from the system, installed with apt where that is
# allowed without asking (root, on a Debian-like system). Never fails: without them that one test is skipped.
set -euo pipefail

have() { for name in "$@"; do command -v "$name" >/dev/null && return; done; return 1; }
ready() { have chromium chromium-browser google-chrome google-chrome-stable && have chromedriver; }

if ! ready && [ "$(id -u)" = 0 ] && have apt-get; then
    echo "browser: installing Chromium with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null 2>&1 || true
    apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null 2>&1 ||
        apt-get install -y -qq --no-install-recommends chromium-browser chromium-chromedriver >/dev/null 2>&1 || true
fi
ready || echo "browser: no Chromium with chromedriver; opening the book will be skipped" \
    "(sudo apt-get install chromium chromium-driver)"
