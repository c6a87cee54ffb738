#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# img convert beside qemu-img convert.

load ../lib/img_peer

make_files() {
    make_image a.img
    make_image b.img 2
    truncate -s 1M zero.img
    truncate -s 512k short.img
}
setup() { peer_setup; }

@test "one image, several ways" {
    same convert a.img new.img
    same convert -f raw -O raw a.img new.img
    same convert -W -m 16 a.img new.img
    same convert -m 1 a.img new.img
    same convert -t none -T none a.img new.img
    same convert -t writethrough a.img new.img
    same convert -o preallocation=full a.img new.img
    same convert --salvage a.img new.img
    same convert -C a.img new.img
    same convert -r 100M a.img new.img
    same convert --image-opts driver=raw,file.filename=a.img new.img
    same convert -U a.img new.img
    same convert -p -q a.img new.img
}

@test "images joined" {
    same convert a.img b.img new.img
    same convert zero.img a.img short.img b.img new.img
}

@test "sparse sizes" {
    same convert -S 0 a.img new.img
    same convert -S 3k a.img new.img
    same convert -S 64k a.img new.img
    same convert -S 16M a.img new.img
}

@test "into an existing image" {
    same convert -n a.img zero.img
    same convert -n short.img b.img
    same convert -n --target-image-opts b.img driver=raw,file.filename=zero.img
    same convert -n --target-is-zero a.img zero.img
    same convert a.img b.img
}

@test "the help on options" {
    same convert -o help a.img new.img
}

@test "what is refused, and leaves nothing behind" {
    same_words convert
    same_words convert a.img
    same_words convert -O foo a.img new.img
    same_words convert -f foo a.img new.img
    same_words convert -n a.img nope.img
    same_words convert -n a.img short.img
    same_words convert -n -o size=1 a.img zero.img
    same_words convert --target-is-zero a.img zero.img
    same_words convert -c a.img new.img
    same_words convert -B a.img a.img new.img
    same_words convert -l foo a.img new.img
    same_words convert -S foo a.img new.img
    same_words convert -S 100 a.img new.img
    same_words convert -S 3G a.img new.img
    same_words convert -m 0 a.img new.img
    same_words convert -m 17 a.img new.img
    same_words convert -m foo a.img new.img
    same_words convert -t foo a.img new.img
    same_words convert -T foo a.img new.img
    same_words convert -r foo a.img new.img
    same_words convert nope.img new.img
    same_words convert a.img /nonexistent/new.img
    same_words convert -o foo=foo a.img new.img
    same_words convert -C -S 4k a.img new.img
    same_words convert -C --salvage a.img new.img
    same_words convert --bitmaps a.img new.img
    same_words convert --target-image-opts a.img driver=raw,file.filename=new.img
    same_words convert -n --target-image-opts -O raw a.img driver=raw,file.filename=zero.img
    same_words convert --image-opts -f raw driver=raw,file.filename=a.img new.img
    same_status convert -o preallocation=foo a.img new.img
    # theirs exists: qemu-img makes the target before it looks at some of its options
    [ ! -e "$BATS_TEST_TMPDIR/ours/new.img" ]
    equal "$(ls -A "$BATS_TEST_TMPDIR/ours")" "$(printf '%s\n' a.img b.img short.img zero.img)" "files"
}
