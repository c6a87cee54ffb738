# SPDX-License-Identifier: BSD-2-Clause
# The file driver remembers the run of data that the host last told of (clusters ask one by one): what we
# punch or zero ourselves must be seen by the very next question.
load ../lib/common

@test "a hole that was made after the data was looked at is seen" {
    need nbdsh
    cd "$BATS_TEST_TMPDIR" || return
    pattern_file a.raw 1048576
    serve s -f raw a.raw
    cat >client.py <<'EOP'
h.add_meta_context("base:allocation")
h.connect_uri(uri)
def extents():
    seen = []
    def extent(context, offset, entries, error):
        seen.extend("%dk:%d" % (n >> 10, flags) for n, flags in zip(entries[::2], entries[1::2]))
    h.block_status(1 << 20, 0, extent)
    print(" ".join(seen))
extents()
h.trim(256 << 10, 256 << 10)
extents()
h.zero(128 << 10, 768 << 10)
extents()
EOP
    expect 0 nbdsh -c "uri='$(uri s)'" -c 'exec(open("client.py").read())'
    # 0: data, 3: a hole that reads as zeroes
    # shellcheck disable=SC2154 # set by expect
    equal "$out" "1024k:0
256k:0 256k:3 512k:0
256k:0 256k:3 256k:0 128k:3 128k:0"
}
