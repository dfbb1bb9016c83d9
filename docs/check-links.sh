#!/usr/bin/env bash
# Checks the relative links of the Markdown files: the file has to exist, and so does the heading after a `#`.
# Usage: docs/check-links.sh [FILE...]   (all of the repository without arguments)
set -euo pipefail

# `line target` of each link outside of code, without its title.
links() {
  awk '
    /^[ \t]*(```|~~~)/ { fenced = !fenced; next }
    fenced { next }
    {
      gsub(/`[^`]*`/, "")
      if (match($0, /^[ \t]*\[[^]]+\]:[ \t]+[^ \t]+/)) {
        target = substr($0, RSTART, RLENGTH); sub(/^[ \t]*\[[^]]+\]:[ \t]+/, "", target); print NR, target
      }
      while (match($0, /\]\([^)]*\)/)) {
        target = substr($0, RSTART + 2, RLENGTH - 3)
        $0 = substr($0, RSTART + RLENGTH)
        sub(/^[ \t]+/, "", target); sub(/[ \t].*$/, "", target); gsub(/[<>]/, "", target)
        print NR, target
      }
    }' "$1"
}

# The anchors of a file as its headings make them: lower case, no punctuation, hyphens for blanks, numbered when repeated.
anchors() {
  awk '
    /^[ \t]*(```|~~~)/ { fenced = !fenced; next }
    fenced { next }
    {
      line = $0
      while (match(line, /(id|name)="[^"]+"/)) {
        anchor = substr(line, RSTART, RLENGTH); line = substr(line, RSTART + RLENGTH)
        gsub(/^[^"]*"|"$/, "", anchor); print anchor
      }
    }
    /^#+[ \t]/ {
      sub(/^#+[ \t]+/, ""); sub(/[ \t]+#*[ \t]*$/, ""); $0 = tolower($0)
      while (match($0, /\]\([^)]*\)/)) $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
      gsub(/[]!"#$%&()*+,.\/:;<=>?@[\\^`{|}~'\''’]/, ""); gsub(/ /, "-")
      print (seen[$0]++ ? $0 "-" (seen[$0] - 1) : $0)
    }' "$1"
}

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if (($#)); then files=("$@"); else mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.md'); fi

failed=0
for file in "${files[@]}"; do
  [[ -f $file ]] || continue # deleted, but not yet in a commit
  while read -r line target; do
    case $target in
      '' | *://* | mailto:*) continue ;;
    esac
    path=${target%%#*}
    fragment=${target#"$path"}
    case $path in
      '') destination=$file ;;
      /*) destination=.$path ;;
      *) destination=$(dirname -- "$file")/$path ;;
    esac
    if [[ ! -e $destination ]]; then
      printf '%s:%s: %s does not exist\n' "$file" "$line" "$target"
      failed=1
    elif [[ $destination == *.md && -n $fragment ]] && ! anchors "$destination" | grep -qxF -- "${fragment#\#}"; then
      printf '%s:%s: %s has no heading %s\n' "$file" "$line" "$path" "$fragment"
      failed=1
    fi
  done < <(links "$file")
done
exit "$failed"
