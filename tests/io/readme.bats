# SPDX-License-Identifier: BSD-2-Clause
# The README is true: every ```console block is run, in order, in one shell in an empty directory, and
# prints what the README says; times, rates and temporary names aside.
load ../lib/common

teardown() {
    [ ! -e "$BATS_TEST_TMPDIR/tour/q.pid" ] || kill "$(cat "$BATS_TEST_TMPDIR/tour/q.pid")" 2>/dev/null || true
    stop_all
}

# "$ COMMAND" (continued by "> " lines), then its output.
blocks() {
    awk '/^```console$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$TOP/README.md"
}

# What differs from run to run becomes one character.
normalise() {
    sed -E -e 's|/[^ ]*/tour/|/tmp/tour/|' -e 's/[0-9]+\.[0-9]+ sec/T sec/g' -e 's/[0-9:]+\.[0-9]+ \([0-9.]+ [KMGT]?i?B\/sec and [0-9.]+ ops\/sec\)/T/' \
        -e 's/[0-9.]+ (GiB|MiB|KiB|bytes)\/sec/R/g' -e 's/[0-9.]+ ops\/sec/R/g' -e 's/[[:space:]]+$//'
}

@test "every command of the README does what the README shows" {
    need qemu-nbd qemu-img nbdcopy fio
    cd "$BATS_TEST_TMPDIR"
    blocks >expected
    grep -q '^\$ ' expected
    awk '
        function flush_command() { if (command != "") print command; command = "" }
        /^\$ / { flush_command(); text = substr($0, 3); shown = $0; gsub(/\x27/, "\x27\\\x27\x27", shown)
                 printf "printf \"%%s\\n\" \x27%s\x27\n", shown; command = text; next }
        /^> / && command != "" { shown = $0; gsub(/\x27/, "\x27\\\x27\x27", shown)
                 printf "printf \"%%s\\n\" \x27%s\x27\n", shown; command = command "\n" substr($0, 3); next }
        { flush_command() }
        END { flush_command() }' expected >script
    mkdir tour
    bg tour bash -c 'trap "kill \$(jobs -p) 2>/dev/null" EXIT; cd tour && . ../script 2>&1'
    reap tour || true
    equal "$(normalise <tour.out)" "$(normalise <expected)" "what the README shows"
}
