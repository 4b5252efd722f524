#!/bin/sh
# Puts prometheus and promtool into .tools/bin, from Debian's package. Nothing is installed, so no server is started, and root is not needed.
set -eu
cd "$(dirname "$0")/.."
bin="$PWD/.tools/bin"
PATH="$PATH:$bin"
if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi
command -v apt-get >/dev/null || { echo "prometheus: this system has no apt-get: install Prometheus yourself" >&2; exit 1; }
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
# The lists of packages may be missing or old.
apt-get download prometheus >log 2>&1 || { apt-get update && apt-get download prometheus; } >log 2>&1 || { cat log >&2; exit 1; }
dpkg-deb --extract prometheus_*.deb .
mkdir -p "$bin"
cp usr/bin/prometheus usr/bin/promtool "$bin"
