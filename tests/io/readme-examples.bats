# SPDX-License-Identifier: BSD-2-Clause
# The examples that the README names are there and start, and it names all of them. What they do is tested by
# tests/interop/example-*.bats and sqlite.bats.
load ../lib/common

@test "the README names every example, and each explains itself" {
    need python3
    local e readme
    readme=$(grep -oE '^examples/[a-z0-9]+/run ' "$TOP/README.md" | sort)
    equal "$readme" "$(cd "$TOP" && printf '%s \n' examples/*/run | sort)"
    for e in $readme; do
        expect 0 "$TOP/$e" --help
        contains "$out" "usage: run"
        [ -s "$TOP/${e%run}README.md" ]
    done
}
