/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor of `blkproof serve`: makes the QMP server, tells it about the disks, and runs the commands of
 * `blkproof io` for it. Their output is caught by giving stdio another stdout meanwhile, which is why
 * only one of them runs at a time; what one leaves in the background prints to the real one later, as
 * in QEMU.
 */
#include "base/json.h"
#include "block/driver.h"
#include "qmp/qmp.h"
#include "tools/io/io.h"
#include "tools/serve_fuse.h"

/* What commands on a node leave behind: requests in the background. */
struct shell {
    struct list link; /* serve->shells */
    struct io io;     /* its node is a reference */
};

/* ---- commands of blkproof io ---- */

static void shell_free(struct shell *sh)
{
    io_aio_drain(&sh->io);
    list_del(&sh->link);
    node_unref(sh->io.node);
    free(sh);
}

static struct shell *shell_get(struct serve *s, struct node *n)
{
    struct shell *sh, *tmp, *found = NULL;

    list_for_each_safe (sh, tmp, &s->shells, link) {
        if (sh->io.node == n) {
            found = sh;
        } else if (sh->io.aio_pending == 0) {
            shell_free(sh);
        }
    }
    if (!found && (found = calloc(1, sizeof(*found)))) {
        graph_init(&found->io.graph);
        found->io.tool = s->tool;
        found->io.node = node_ref(n);
        co_queue_init(&found->io.aio_done);
        list_add_tail(&s->shells, &found->link);
    }
    return found;
}

/* Commands that would end the server, or are about a file of their own. */
static const char *refusal(const char *line)
{
    static const char *const refused[] = {"abort", "sigraise", "quit", "q",      "open",
                                          "o",     "close",    "c",    "reopen", "scrub"};
    size_t skip = strspn(line, " "), len = strcspn(line + skip, " ");

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (strlen(refused[i]) == len && strncmp(line + skip, refused[i], len) == 0) {
            return "this command is not for a monitor\n";
        }
    }
    return NULL;
}

static co_fn char *run_line(struct shell *sh, char *line)
{
    char *out = NULL;
    size_t len = 0;
    FILE *caught = open_memstream(&out, &len), *before = stdout;

    if (!caught) {
        return NULL;
    }
    stdout = caught;
    io_run_line(&sh->io, line);
    stdout = before;
    fclose(caught);
    return out;
}

static co_fn char *io_command(void *opaque, struct node *n, const char *line)
{
    struct serve *s = opaque;
    const char *no = s->shell_busy ? "another command is running\n" : refusal(line);
    AUTO_FREE char *copy = strdup(line);

    if (no || !copy) {
        return no ? strdup(no) : NULL;
    }
    struct shell *sh = shell_get(s, n);
    if (!sh) {
        return NULL;
    }
    s->shell_busy = true;
    char *out = run_line(sh, copy);
    s->shell_busy = false;
    if (sh->io.aio_pending == 0) {
        shell_free(sh);
    }
    return out;
}

/* ---- the monitor ---- */

static void on_notice(void *opaque, const char *sentence)
{
    const struct serve *s = opaque;

    tool_error(s->tool, "%s", sentence);
}

static void on_quit(void *opaque)
{
    serve_wind_down(opaque);
}

static int add_disk(struct serve *s, unsigned i, struct err *err)
{
    const struct image *im = &s->images[i];
    char number[32];

    snprintf(number, sizeof(number), "disk%u", i);
    const char *id = im->id ? im->id : *im->export_name ? im->export_name : number;
    int r = qmp_server_add_disk(s->qmp, id, im->node, err);
    return r < 0 ? r : qmp_server_add_export(s->qmp, id, im->export_name, im->node, err);
}

int serve_qmp_begin(struct serve *s, struct err *err)
{
    const struct qmp_config config = {.graph = &s->graph,
                                      .nbd = &s->server,
                                      .nbd_config = &s->config,
                                      .open_flags = s->open_flags | (s->read_only ? 0 : OPEN_WRITE),
                                      .notice = on_notice,
                                      .quit = on_quit,
                                      .io_command = io_command,
                                      .fuse_make = serve_fuse_make,
                                      .fuse_end = serve_fuse_end,
                                      .opaque = s};
    int r = s->nqmp > 0 ? qmp_server_create(&config, &s->qmp, err) : 0;

    for (unsigned i = 0; r == 0 && s->qmp && i < s->nimages; i++) {
        r = add_disk(s, i, err);
    }
    return r;
}

int serve_qmp_listen(struct serve *s, struct err *err)
{
    int r = s->qmp ? serve_fuse_announce(s, err) : 0;

    for (unsigned i = 0; r == 0 && i < s->nqmp; i++) {
        r = qmp_server_listen(s->qmp, s->qmp_addresses[i], err);
    }
    return r;
}

void serve_qmp_stop(struct serve *s)
{
    if (s->qmp) {
        qmp_server_stop(s->qmp, s->failed ? "host-error" : "host-signal");
    }
}

void serve_qmp_finish(struct serve *s)
{
    if (!s->qmp) {
        return;
    }
    while (!list_empty(&s->shells)) {
        shell_free(list_entry(s->shells.next, struct shell, link));
    }
    qmp_server_wait(s->qmp);
}
