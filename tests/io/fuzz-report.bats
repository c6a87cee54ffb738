#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What `blkproof fuzz report` and `fuzz corpus` make of a campaign.

load ../lib/common

setup() {
    need sqlite3 jq
    cd "$BATS_TEST_TMPDIR"
    bin=$(dirname "$(type -P blkproof)")/tests
    [ -x "$bin/planted" ] || skip "tests are not built beside $(type -P blkproof)"
    printf '%s\n' "ro,open: $bin/planted info '{img}' '<&>'" "ro,check: $bin/planted check {img}" \
        "ro,read: $bin/planted read {img}" >commands
    expect 1 blkproof fuzz run --format=qed --recipes=0 --jobs=1 --again=1 --no-gdb --timeout=20s --commands=commands \
        --config=header.table_size --config=header.cluster_size --count=40 --out=c
}

@test "Markdown: a line for each finding and field" {
    expect 0 blkproof fuzz min c/findings/signal-*
    expect 0 blkproof fuzz report --out=c
    contains "$out" "40 tests"
    matches "$out" '\| signal-[0-9a-f]{12} \| [0-9]+ \| 1 of 1 \| planted info: SIGABRT'
    contains "$out" "header.table_size = 0x"
    matches "$out" '\| check-read-[0-9a-f]{12} \|'
    matches "$out" '\| header.cluster_size \| [0-9]+ \|'
}

@test "JSON holds what the state holds" {
    expect 0 blkproof fuzz report --out=c --format=json
    equal "$(jq -r '.totals.tests' <<<"$out")" 40
    equal "$(jq -r '[.findings[].count] | add' <<<"$out")" "$(sqlite3 c/campaign.sqlite 'select count(*) from hit')"
    equal "$(jq -r '.config.formats[0]' <<<"$out")" qed
}

@test "JUnit: findings are failures, other oracles passed" {
    expect 0 blkproof fuzz report --out=c --format=junit junit.xml
    python3 - <<'END'
import xml.etree.ElementTree as tree
suite = tree.parse("junit.xml").getroot()
cases = suite.findall("testcase")
failed = [c for c in cases if c.find("failure") is not None]
assert len(failed) == int(suite.get("failures")) == 2, suite.attrib
assert len(cases) == int(suite.get("tests")) == 11, suite.attrib  # 9 of 11 oracles found nothing
assert any("<&>" in c.find("failure").text for c in failed)
END
}

@test "HTML is one page, and escapes what programs and images say" {
    expect 0 blkproof fuzz report --out=c --format=html page.html
    python3 - <<'END'
import html.parser
class Page(html.parser.HTMLParser):
    stack, text = [], ""
    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "polyline"):
            self.stack.append(tag)
        assert not any(k in ("src", "href") for k, v in attrs), attrs
    def handle_endtag(self, tag):
        assert tag == "polyline" or self.stack.pop() == tag, tag
    def handle_data(self, data):
        self.text += data
page = Page()
page.feed(open("page.html").read())
assert not page.stack, page.stack
assert "<&>" in page.text and "header.table_size" in page.text
END
}

@test "corpus export: images that were opened, and a dictionary" {
    expect 0 blkproof fuzz corpus --out=c --count=10 --max=10M export seeds
    equal "$(ls seeds | wc -l)" 10
    local f n
    for f in seeds/*; do
        n=$((10#$(basename "$f" .qed)))
        equal "$(sqlite3 c/campaign.sqlite "select opened from test where n = $n")" 1
    done
    contains "$(cat seeds.dict)" 'QED_header_magic="\x51\x45\x44\x00"'
    expect 0 blkproof fuzz corpus --out=c --findings --max=10M export bad
    equal "$(ls bad | wc -l)" "$(sqlite3 c/campaign.sqlite 'select count(distinct n) from hit')"
}

@test "what is no campaign is said" {
    expect 1 blkproof fuzz report --out=nowhere
    equal "$(wc -l <<<"$err")" 1
    expect 2 blkproof fuzz report --out=c --format=text
    expect 2 blkproof fuzz corpus --out=c import x
}
