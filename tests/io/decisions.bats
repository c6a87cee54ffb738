# SPDX-License-Identifier: BSD-2-Clause
# What fault rules decide, logged by a server and repeated by another one for a client with another order.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || exit
    need nbdsh
    truncate -s 1M disk.img
    cat >rules.json <<'END'
[{"id":"bad","op":"write","probability":0.2,"action":"error","errno":"ENOSPC"},
 {"id":"slow","op":"read","probability":0.2,"action":"delay","distribution":"uniform","delay-max":"2ms"}]
END
    disk='json:{"driver":"fault","node-name":"f","rules":"rules.json","file":{"driver":"file","filename":"disk.img"}}'
}

# client STEP: 100 writes and reads of 100 places in an order of their own; the places whose write failed.
client() { # STEP
    expect 0 nbdsh -u "$(uri s)" -c "
failed = []
for i in range(100):
    place = i * $1 % 101 * 512 + 512
    try:
        h.pwrite(b'1' * 512, place)
    except nbd.Error:
        failed.append(place)
    h.pread(512, place)
print(sorted(failed))"
}

@test "a client in another order gets the faults of the log" {
    serve s --decision-log a.log "$disk"
    client 1
    one=$out
    stop s
    serve s "$disk"
    client 7
    [ "$out" != "$one" ]
    stop s
    serve s --replay-decisions a.log --decision-log b.log "$disk"
    client 7
    equal "$out" "$one"
    stop s
    equal "$(<s.err)" ""
    same='select(.rule) | [.node, .rule, .op, .offset, .bytes, .nth, .errno, ."delay-ns"] | @json'
    equal "$(jq -r "$same" a.log | sort)" "$(jq -r "$same" b.log | sort)"
    equal "$(jq -c 'select(.rule == "bad") | .offset' a.log | sort -n | paste -sd, | sed 's/,/, /g')" "${one:1:-1}"
    equal "$(head -1 a.log | jq -c '[."blkproof-decisions", .nodes[0].node, .nodes[0].seed, [.nodes[0].rules[].id]]')" \
        '[1,"f",1,["bad","slow"]]'
}

@test "decisions whose requests did not come are told at the end" {
    echo '{"blkproof-decisions":1,"version":"x","nodes":[{"node":"f","seed":1,"rules":[{"id":"bad"}]}]}' >log
    for place in 0 512 1024; do
        echo '{"node":"f","rule":"bad","action":"error","matched":1,"operation":9,"op":"write","offset":'$place',"bytes":512,"nth":1}' >>log
    done
    echo '{"dropped":4}' >>log
    serve s --replay-decisions log "$disk"
    expect 0 nbdsh -u "$(uri s)" -c '
h.pwrite(b"1" * 512, 2048)
try:
    h.pwrite(b"1" * 512, 512)
    print("written")
except nbd.Error as e:
    print(e.errno)
h.pwrite(b"1" * 512, 512)'
    equal "$out" ENOSPC
    stop s
    contains "$(<s.err)" "the decision log 'log' lacks 4 decisions, which are not repeated"
    contains "$(<s.err)" "2 of 3 decisions were not repeated: their requests did not come"
}

@test "a log that cannot be one is refused, with its line" {
    refuses() { # SENTENCE
        expect 1 blkproof serve --replay-decisions log --run true "$disk"
        contains "$err" "$1"
    }
    head='{"blkproof-decisions":1,"version":"x","nodes":[{"node":"f","seed":1,"rules":[]}]}'
    good='{"node":"f","rule":"r","action":"error","matched":1,"operation":1,"op":"read","offset":0,"bytes":1,"nth":1}'
    refuses "cannot open the decision log 'log': No such file or directory"
    : >log
    refuses "line 1: the file is empty"
    echo '{"a":1}' >log
    refuses "line 1: not the first line of a log of decisions"
    echo "${head/\"f\"/\"g\"}" >log
    refuses "about a node 'g': none has this name and fault rules"
    echo "${head/:1,\"rules/:2,\"rules}" >log
    refuses "was made with the seed 2 of node 'f', and it is 1"
    local bad
    for bad in '{' '[]' '{}' '{"dropped":0}' '{"dropped":"x"}' "${good/read/reed}" "${good/\"bytes\":1/\"bytes\":-1}" \
        "${good/\"nth\":1/\"nth\":\"1\"}" "${good/\"op\"/\"po\"}" "${good/\"operation\":1,/}" "${good/\"f\"/null}" \
        "${good/\"nth\"/\"node\"}"; do
        printf '%s\n' "$head" "$good" "$bad" >log
        refuses "the decision log 'log', line 3: "
        equal "$(wc -l <<<"$err")" 1
    done
    printf '%s\n%s' "$head" "$good" >log
    refuses "line 2: it has no end: the log was cut off there"
    printf '%s\n' "$head" "$good" >log
    expect 0 blkproof serve --replay-decisions log --run true "$disk"
    rm log
    mkfifo log
    refuses "expected a file of at most 256 MiB"
}

@test "a log goes into a file of its own" {
    echo '{"blkproof-decisions":1}' >log
    expect 1 blkproof serve --decision-log log --run true "$disk"
    contains "$err" "the decision log 'log' is there already: expected a new or empty file"
    expect 1 blkproof serve --decision-log disk.img --run true "$disk"
    expect 1 blkproof serve --decision-log none/log --run true "$disk"
    contains "$err" "No such file or directory"
    expect 1 blkproof serve --decision-log /dev/full --run true "$disk"
}
