#!/usr/bin/env bash
# Installs the npm packages of server.mjs (PostgreSQL and TimescaleDB as WebAssembly) outside the source tree and prints
# the folder that holds node_modules. What is installed already is not installed again.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

say() { printf '%s\n' "$*" >&2; }

key=$(cat package.json package-lock.json install.sh | cksum | tr -d ' ')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/timescaledb-policy-operator/timescaledb
folder=$cache/$key
if [[ -d $folder ]]; then
  printf '%s\n' "$folder"
  exit
fi

command -v npm >/dev/null || { say "Node.js 20 or newer with npm is needed to run TimescaleDB for the tests: https://nodejs.org"; exit 1; }
say "Installing TimescaleDB as WebAssembly for the tests (once; a few seconds)"
mkdir -p "$cache"
# A partial install must never look like a finished one: install beside the final place, rename at the end.
partial=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf -- "$partial"' EXIT
cp package.json package-lock.json .npmrc "$partial"
npm ci --prefix "$partial" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
chmod 755 "$partial"
# Of two installs at the same time the first one wins.
[[ -d $folder ]] || mv "$partial" "$folder"
printf '%s\n' "$folder"
