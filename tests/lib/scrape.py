#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""scrape.py ADDRESS [NAME[,LABEL=VALUE...]...]: GET /metrics of blkproof serve at ADDRESS (tcp:HOST:PORT), parse the answer
with Prometheus' own client library, and print the value of each sample that was named, a line each ("none" if there
is none, or the number of samples that fit if more than one). Without names: the number of families."""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

with urllib.request.urlopen("http://" + sys.argv[1].removeprefix("tcp:") + "/metrics", timeout=20) as answer:
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers["Content-Type"]
    families = list(text_string_to_metric_families(answer.read().decode()))
for family in families:
    assert family.type in ("counter", "gauge", "histogram") and family.documentation, family
if len(sys.argv) == 2:
    print(len(families))
for wanted in sys.argv[2:]:
    name, *labels = wanted.split(",")
    labels = dict(label.split("=", 1) for label in labels)
    found = [s.value for f in families for s in f.samples
             if s.name == "blkproof_" + name and labels.items() <= s.labels.items()]
    print("none" if not found else "%g" % found[0] if len(found) == 1 else "%d samples" % len(found))
