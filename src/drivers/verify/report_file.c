/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where reports go: lines for people through graph->notice, one JSON object per mismatch to monitors and into
 * the report file, each by a single write at its end, so that the file is whole up to its last line
 * whatever becomes of the process.
 */
#include <stdio.h>

#include "base/json.h"
#include "block/report_file.h"
#include "drivers/verify/internal.h"

int verify_report_open(struct node *n, const char *path, struct err *err)
{
    struct verify *v = n->state;

    return report_file_open(n->graph, path, &v->report_fd, err);
}

void verify_report_close(struct verify *v)
{
    if (v->report_fd >= 0) {
        close(v->report_fd);
        v->report_fd = -1;
    }
}

void verify_notice(struct node *n, enum notice_kind kind, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (!n->graph->notice || (n->graph->standin && kind == NOTICE_DETAIL)) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n->graph->notice(n->graph, kind, text);
}

/* To the report file and to monitors. */
void verify_publish(struct node *n, json_t *object)
{
    const struct verify *v = n->state;

    int rc = v->report_fd >= 0 ? report_file_append(v->report_fd, object) : 0;
    if (rc < 0) {
        verify_notice(n, NOTICE_WARNING, "blkverify: cannot write to the report file: %s", err_name(rc));
    }
    if (n->graph->event) { /* where nodes go by this member */
        json_object_set_new(object, "node-name", json_string(node_name(n)));
    }
    graph_event(n->graph, "VERIFY_MISMATCH", object);
}
