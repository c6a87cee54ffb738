# SPDX-License-Identifier: BSD-2-Clause
# The oracle: hashes instead of a second copy, in a file that outlives blkproof.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || exit
    truncate -s 8M disk.img
}

write() {
    expect 0 blkproof io --oracle book "$@" disk.img
}

@test "what was written and flushed must be there in the next run" {
    write -c 'write -q -P 1 0 64k' -c flush
    expect 0 blkproof io --oracle book -c 'read -q -P 1 0 64k' disk.img
    flip_bit disk.img 5000 3
    expect 1 blkproof io --oracle book -c 'read -q 0 64k' disk.img
    equal "${err%%$'\n'*}" "blkverify: read sector_num=0 nb_sectors=128 contents mismatch in sector 9"
    contains "$err" "there should be the data of operation 1 of all runs, in an earlier one, which is durable"
    contains "$err" "diagnosis: one bit flipped: bit 3 of byte 392 of sector 9, at offset 5000"
}

@test "what was not flushed is old or new, and stays what it showed first" {
    write -c 'write -q -P 1 0 4k' -c flush
    cp disk.img old.img
    bg s blkproof serve --oracle book --nbd unix:s.sock --quiet disk.img
    wait_for_socket s.sock
    expect 0 blkproof io -f raw -t unsafe -c 'write -q -P 2 0 4k' -c 'read -q 0 4k' 'nbd+unix:///?socket=s.sock'
    kill -KILL "$(pid s)"
    reap s || true
    cp disk.img new.img
    for i in old new; do
        cp book "book.$i"
        expect 0 blkproof io --oracle "book.$i" -c 'read -q 0 4k' $i.img
    done
    expect 1 blkproof io --oracle book.old -c 'read -q 0 4k' new.img
    expect 1 blkproof io --oracle book.new -c 'read -q 0 4k' old.img
}

@test "killed in the middle of writes, again and again: the scrub finds nothing; a planted bit, and it does" {
    need nbdsh
    for i in 1 2 3; do
        serve s --oracle book disk.img
        bg client nbdsh -u "$(uri s)" -c '
import random
r = random.Random('$i')
while True:
    at = r.randrange(8 << 20) & -512
    n = min(512 * r.randrange(1, 65), (8 << 20) - at)
    h.pwrite(r.randbytes(n), at)
    if r.random() < 0.05: h.flush()
    h.pread(n, at)'
        wait_until "some work" bash -c "[ \$(du -k book | cut -f1) -gt $((500 * i)) ]"
        kill -KILL "$(pid s)"
        reap s || true
        reap client || true
        expect 0 blkproof serve --oracle book --scrub --run true disk.img
        equal "$err" ""
    done
    blkproof io --oracle book -c flush disk.img
    flip_bit disk.img 3000000 0
    expect 1 blkproof serve --oracle book --on-mismatch report --scrub --run true disk.img
    contains "$err" "contents mismatch in sector 5859"
}

@test "hostile books are refused with a sentence, and stay as they are" {
    write -c 'write -q 0 4k'
    refused() { # FILE SENTENCE
        cp "$1" before
        expect 1 blkproof io --oracle "$1" -c 'read 0 512' disk.img
        equal "$err" "blkproof: can't open device disk.img: oracle '$1': $2"
        cmp "$1" before
    }
    head -c 100000 /dev/urandom >junk
    refused junk "the file holds something else: expected a new file, or an oracle's"
    printf x >short
    refused short "the file holds something else: expected a new file, or an oracle's"
    cp book b
    flip_bit b 17 0
    refused b "its header is damaged: the checksum is wrong"
    cp book b
    truncate -s -65536 b
    matches "$(blkproof io --oracle b -c 'read 0 512' disk.img 2>&1)" "it has [0-9]+ bytes instead of [0-9]+: it was cut, or extended"
    cp book b
    printf '\377' | dd of=b bs=1 seek=71 conv=notrunc status=none # the last operation's number: beyond 2^40
    contains "$(blkproof io --oracle b -c 'read 0 512' disk.img 2>&1)" "oracle 'b': "
    truncate -s 4M small.img
    contains "$(blkproof io --oracle book -c 'read 0 512' small.img 2>&1)" \
        "oracle 'book': it is about a device of 8388608 bytes, and this one has 4194304"
    mkdir d
    contains "$(blkproof io --oracle d -c 'read 0 512' disk.img 2>&1)" "oracle 'd': cannot open it: Is a directory"
    contains "$(blkproof io --oracle /dev/zero -c 'read 0 512' disk.img 2>&1)" "it is not a regular file"
}

@test "garbage in the book's pages harms nobody" {
    write -c 'write -q -P 1 0 1M' -c flush -c 'write -q -P 2 0 512k'
    for at in 4096 65536 $((65536 + 24 * 1024 * 1024)); do
        cp book b
        dd if=/dev/urandom of=b bs=4096 seek=$((at / 4096)) count=4 conv=notrunc status=none
        run blkproof io --on-mismatch report --oracle b -c 'read -q 0 8M' -c 'write -q 0 8M' -c 'discard 0 4M' \
            -c 'read -q 0 8M' disk.img
        [ "$status" -le 1 ]
        run blkproof serve --oracle b --on-mismatch report --scrub --run true disk.img
        [ "$status" -le 1 ]
    done
}

@test "one book, one user" {
    serve s --oracle book disk.img
    truncate -s 8M other.img
    expect 1 blkproof io --oracle book -c 'read 0 512' other.img
    equal "$err" "blkproof: can't open device other.img: oracle 'book': it is in use"
    expect 1 blkproof serve --oracle b2 --run true a=disk.img b=other.img
    equal "$err" "blkproof: --oracle is for one image, and there are 2: use the driver oracle"
}

@test "no space for the book: said once, and clients go on" {
    unshare -rm true || skip "unshare does not work here"
    mkdir small
    expect 0 unshare -rm sh -c 'mount -t tmpfs -o size=256k none small &&
        blkproof io --oracle small/book -c "write -q -P 1 0 2M" -c flush -c "write -q -P 2 4M 4M" -c "read -q -P 1 0 2M" \
        -c "read -q -P 2 4M 4M" disk.img'
    contains "$err" "oracle: cannot extend 'small/book': No space left on device; what is written"
    contains "$err" "bytes were believed"
    equal "$(grep -c "cannot extend" <<<"$err")" 1
    expect 1 unshare -rm sh -c 'mount -t tmpfs -o size=256k none small &&
        blkproof io --oracle small/book -c "write -q -P 1 0 2M" -c "write -q -P 2 4M 4M" disk.img &&
        blkproof io -c "write -q -P 3 0 512" disk.img &&
        blkproof io --oracle small/book -c "read -q 0 2M" disk.img' # what was noted is verified
    contains "$err" "contents mismatch in sector 0"
}

@test "an injected error: old or new, exit status 0" {
    expect 0 blkproof io --oracle book -c 'write -q -P 1 0 4k' -c flush disk.img
    expect 1 blkproof io --oracle book -c 'write -q -P 2 0 4k' -c 'read -q 0 4k' \
        'json:{"driver":"fault","file":{"driver":"file","filename":"disk.img"},"rules":[{"op":"write","action":"error"}]}'
    contains "$output" "write failed: Input/output error" # the command's status; and nothing was corrupt
    lacks "$err" "mismatch"
    expect 0 blkproof io --oracle book -c 'read -q -P 1 0 4k' disk.img
}
