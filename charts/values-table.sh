#!/usr/bin/env bash
# Prints the README of a chart with the table of its values made anew from values.yaml, where each value is one line
# below a comment that begins with `# --`.
# Usage: charts/values-table.sh CHART
set -euo pipefail

awk '
  function trim(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }
  function cell(text) { gsub(/\|/, "\\|", text); return text }
  FILENAME == ARGV[1] {
    if (/^ *# -- /) { sub(/^ *# -- /, ""); text = $0; next }
    if (!/^ *[A-Za-z0-9]+:/) next
    match($0, /^ */); depth = RLENGTH / 2
    key = trim(substr($0, 1, index($0, ":") - 1)); value = trim(substr($0, index($0, ":") + 1))
    path[depth] = key
    if (value == "") next
    if (text == "") { print FILENAME ": " key " has no description" > "/dev/stderr"; failed = 1; exit }
    name = path[0]
    for (i = 1; i <= depth; i++) name = name "." path[i]
    rows = rows "| `" name "` | `" cell(value) "` | " cell(text) " |\n"
    text = ""
    next
  }
  /^<!-- values -->$/ { print; printf "| value | default | |\n|---|---|---|\n%s", rows; inside = 1; next }
  /^<!-- end of values -->$/ { inside = 0 }
  !inside
  END { exit failed }
' "$1/values.yaml" "$1/README.md"
