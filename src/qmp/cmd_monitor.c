/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about the monitor and the program: negotiation, versions, lists, stop and cont, quit. */
#include <stdio.h>

#include "qmp/commands.h"

#define STOP_STEPS   1000 /* stop looks so often, once a millisecond, whether all I/O has ended */
#define STOP_STEP_NS NS_PER_MS

json_t *qmp_version(void)
{
    int major = 0, minor = 0, micro = 0;

    sscanf(BLKPROOF_VERSION, "%d.%d.%d", &major, &minor, &micro);
    return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", major, "minor", minor, "micro", micro,
                     "package", "blkproof " BLKPROOF_VERSION);
}

QMP_RUN(qmp_capabilities)
{
    if (json_array_size(qmp_arg(call, "enable")) > 0) { /* there is only one */
        call->conn->oob = true;
    }
    call->conn->negotiated = true;
    return json_object();
}

QMP_RUN(qmp_query_version)
{
    return qmp_version();
}

QMP_RUN(qmp_query_commands)
{
    json_t *list = json_array();

    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        json_array_append_new(list, json_pack("{s:s}", "name", c->name));
    }
    return list;
}

QMP_RUN(qmp_query_schema)
{
    return qmp_schema();
}

QMP_RUN(qmp_quit)
{
    call->conn->quit = true;
    qmp_event_send_held(call->server);
    qmp_server_event(call->server, "SHUTDOWN",
                     json_pack("{s:b, s:s}", "guest", 0, "reason", "host-qmp-quit"));
    call->server->told_shutdown = true;
    return json_object();
}

/* ---- stop and cont ---- */

static unsigned in_flight(const struct qmp_server *s)
{
    const struct graph *g = s->config.graph;
    const struct node *n;
    unsigned count = 0;

    list_for_each (n, &g->nodes, link) {
        count += n->depth == 0 ? node_in_flight(n) : 0;
    }
    return count;
}

QMP_RUN(qmp_query_status)
{
    bool paused = call->server->config.graph->paused;

    return json_pack("{s:b, s:b, s:s, s:I}", "running", (int)!paused, "singlestep", 0, "status",
                     paused ? "paused" : "running", "in-flight", (json_int_t)in_flight(call->server));
}

/* A disk that hangs must not hang the monitor: the wait has an end. */
QMP_RUN(qmp_stop)
{
    struct graph *g = call->server->config.graph;

    if (!g->paused) {
        g->paused = true;
        qmp_server_event(call->server, "STOP", NULL);
    }
    for (int i = 0; i < STOP_STEPS && g->paused && in_flight(call->server) > 0 && !qmp_is_gone(call); i++) {
        co_sleep_ns(STOP_STEP_NS);
    }
    return json_object();
}

QMP_RUN(qmp_cont)
{
    struct graph *g = call->server->config.graph;

    if (g->paused) {
        g->paused = false;
        co_queue_wake_all(&g->resumed);
        qmp_server_event(call->server, "RESUME", NULL);
    }
    return json_object();
}

/* ---- commands of people ---- */

/* One word, perhaps in double quotes; *@p moves behind it. */
static char *take_word(char **p)
{
    char *word = *p + strspn(*p, " \t");
    char stop = *word == '"' ? '"' : ' ';

    word += stop == '"';
    char *end = strchrnul(word, stop);
    *p = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

QMP_RUN(qmp_human_command)
{
    const struct qmp_config *config = &call->server->config;
    AUTO_FREE char *line = strdup(qmp_arg_str(call, "command-line"));

    if (!line) {
        return qmp_fail(call, -ENOMEM, "no memory for a command");
    }
    char *p = line, *verb = take_word(&p);
    if (strcmp(verb, "qemu-io") != 0 || !config->io_command) {
        char text[200]; /* as HMP says it: no error */
        snprintf(text, sizeof(text), "unknown command: '%.100s'\r\n", verb);
        return json_string(text) ?: json_string("unknown command\r\n");
    }
    char *name = take_word(&p);
    if (strcmp(name, "-d") == 0) { /* what follows is a device, says QEMU's option */
        name = take_word(&p);
    }
    char *command = take_word(&p);
    struct node *n = qmp_find_disk(call->server, name) ?: qmp_find_node(call->server, name);
    if (!n) {
        return qmp_fail(call, -ENOENT, "Cannot find device='%.100s' nor node-name='%.100s'", name, name);
    }
    node_ref(n);
    AUTO_FREE char *out = config->io_command(config->opaque, n, command);
    node_unref(n);
    AUTO_FREE char *clean = out ? qmp_clean(out, strlen(out)) : NULL;
    return clean ? json_string(clean) : qmp_fail(call, -ENOMEM, "no memory for what the command printed");
}
