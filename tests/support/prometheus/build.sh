#!/usr/bin/env bash
# Builds promtool, which checks and tests the alerts, from the Go module that go.mod names and prints the folder that
# holds it. What is built already is not built again.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

say() { printf '%s\n' "$*" >&2; }

# The key covers everything the result depends on, so that an upgrade builds anew and an older checkout still finds its own.
key=$({ cat go.mod go.sum build.sh; uname -sm; } | cksum | tr -d ' ')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/timescaledb-policy-operator/prometheus
bin=$cache/$key
if [[ -d $bin ]]; then
  printf '%s\n' "$bin"
  exit
fi

command -v go >/dev/null || { say "Go is needed to build promtool, which tests the alerts: https://go.dev/doc/install"; exit 1; }
mkdir -p "$cache"
# Two builds at the same time would only slow each other down: the second one waits and finds the work done.
if command -v flock >/dev/null; then
  exec 9>"$cache/lock"
  flock 9
  rm -rf -- "$cache"/partial.* # of builds that were killed
fi
if [[ -d $bin ]]; then
  printf '%s\n' "$bin"
  exit
fi

# A partial build must never look like a finished one: build beside the final place, rename at the end.
partial=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf -- "$partial"' EXIT

# Reads what `go build -v` says: a package per line, and complaints. Counts the first, shows the second.
progress() {
  local line compiled=0 last=$SECONDS
  while IFS= read -r line; do
    case $line in
      'go: downloading '*) ;;
      *' '*) say "$line" ;;
      *) compiled=$((compiled + 1)) ;;
    esac
    if ((SECONDS - last >= 10)); then
      say "  $compiled of about 860 packages compiled after $SECONDS s"
      last=$SECONDS
    fi
  done
}

# Without service discovery, whose clients of every cloud are most of what there is to compile.
export GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0
say "Building promtool for the tests of the alerts (once; about 2 minutes on two cores)"
go build -v -trimpath -buildvcs=false -tags remove_all_sd -ldflags "-s -w" -o "$partial/" tool 2>&1 | progress

chmod 755 "$partial"
mv "$partial" "$bin"
say "Built in $SECONDS s"
printf '%s\n' "$bin"
