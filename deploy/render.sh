#!/usr/bin/env bash
# Writes the manifests of `kubectl apply -k` into a folder: the chart with its own values, without what only Helm reads.
# With them a patch of Argo CD's configuration with the health checks.
# Usage: deploy/render.sh HELM FOLDER
set -euo pipefail
helm=$1 folder=$2
here=$(dirname -- "${BASH_SOURCE[0]}")
name=timescaledb-policy-operator

rendered=$(mktemp -d)
trap 'rm -rf -- "$rendered"' EXIT
"$helm" template "$name" "$here/../charts/$name" --namespace "$name" --set crds.keep=false \
  --skip-tests --output-dir "$rendered" >/dev/null

rm -f -- "$folder"/*.yaml
cat >"$folder/namespace.yaml" <<EOF
apiVersion: v1
kind: Namespace
metadata:
  name: $name
  labels:
    pod-security.kubernetes.io/enforce: restricted
EOF
resources=(namespace.yaml)
for file in "$rendered/$name/templates"/*.yaml; do
  resource=$(basename -- "$file")
  resources+=("$resource")
  awk '
    /^# Source: / || /^ *helm\.sh\/chart: / || /^ *app\.kubernetes\.io\/managed-by: / { next }
    /^---$/ { if (seen++) print; next }
    { print }
  ' "$file" >"$folder/$resource"
done
{
  printf '# Made from the chart by `make generate`. In a cluster: kubectl apply -k deploy/\n'
  printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n'
  printf '  - %s\n' "${resources[@]}"
} >"$folder/kustomization.yaml"

group=timescaledb-policy.io
mkdir -p "$folder/argocd"
{
  printf '# Made by `make generate`. To add to what is there:\n'
  printf '# kubectl patch configmap argocd-cm -n argocd --type=merge --patch-file=deploy/argocd/health-checks.yaml\ndata:\n'
  for crd in "$here"/../crds/*.yaml; do
    kind=$(awk '$1 == "kind:" && $2 != "CustomResourceDefinition" { print $2; exit }' "$crd")
    printf '  resource.customizations.health.%s_%s: |\n' "$group" "$kind"
    sed 's/^./    &/' "$here/argocd/resource_customizations/$group/_/health.lua"
  done
} >"$folder/argocd/health-checks.yaml"
