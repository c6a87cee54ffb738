/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd-server-start and -stop, block-export-add and -del, of NBD and FUSE. What ends here may have requests
 * under way, and a request that a fault holds back has no end: the command is answered at once, a coroutine
 * waits, and BLOCK_EXPORT_DELETED tells when nothing of the export is in use any more.
 */
#include <ctype.h>
#include <stdio.h>

#include "base/json.h"
#include "qmp/commands.h"

#define NBD_CLIENTS_MAX 65536u

struct qmp_export {
    struct list link; /* server->exports */
    struct qmp_server *server;
    char *id, *name;   /* FUSE: no name */
    struct node *node; /* a reference */
    bool starting;     /* its name is taken; it is not there yet */
    bool ending;
    struct nbd_server *nbd;     /* where it is */
    struct nbd_export *removed; /* set: end_export waits for its end */
    struct fuse_export *fuse;   /* instead of these two */
};

static struct qmp_export *find_export(const struct qmp_server *s, const char *id)
{
    struct qmp_export *e;

    list_for_each (e, &s->exports, link) {
        if (strcmp(e->id, id) == 0) {
            return e;
        }
    }
    return NULL;
}

static co_fn void export_free(struct qmp_export *e)
{
    list_del(&e->link);
    node_unref(e->node);
    free(e->id);
    free(e->name);
    free(e);
}

static struct qmp_export *new_export(struct qmp_server *s, const char *id, const char *name, struct node *n,
                                     struct err *err)
{
    struct qmp_export *e = calloc(1, sizeof(*e));

    if (e) {
        e->id = strdup(id);
        e->name = strdup(name);
    }
    if (!e || !e->id || !e->name) {
        if (e) {
            free(e->id);
            free(e->name);
        }
        free(e);
        err_set(err, -ENOMEM, "no memory for export '%s'", id);
        return NULL;
    }
    e->server = s;
    e->node = node_ref(n);
    list_add_tail(&s->exports, &e->link);
    return e;
}

int qmp_server_add_export(struct qmp_server *s, const char *id, const char *name, struct node *n,
                          struct err *err)
{
    struct qmp_export *e = new_export(s, id, name, n, err);

    if (!e) {
        return -ENOMEM;
    }
    e->nbd = *s->config.nbd;
    return 0;
}

int qmp_server_add_fuse(struct qmp_server *s, const char *id, struct fuse_export *fuse, struct node *n,
                        struct err *err)
{
    struct qmp_export *e = new_export(s, id, "", n, err);

    if (!e) {
        return -ENOMEM;
    }
    e->fuse = fuse;
    return 0;
}

void qmp_exports_finish(struct qmp_server *s)
{
    struct qmp_export *e;

    while ((e = list_first(&s->exports, struct qmp_export, link))) {
        export_free(e);
    }
}

static co_fn void export_gone(struct qmp_export *e)
{
    struct qmp_server *s = e->server;

    qmp_server_event(s, "BLOCK_EXPORT_DELETED", json_pack("{s:s}", "id", e->id));
    export_free(e);
}

/* ---- the NBD server ---- */

static char *address_text(struct qmp_call *call)
{
    const json_t *addr = qmp_arg(call, "addr"), *data = json_object_get(addr, "data");
    bool is_unix = strcmp(json_string_value(json_object_get(addr, "type")), "unix") == 0;
    const char *host = json_string_value(json_object_get(data, "host"));
    const char *port = json_string_value(json_object_get(data, "port"));
    const char *path = json_string_value(json_object_get(data, "path"));
    const char *missing = is_unix ? (path ? NULL : "path") : !host ? "host" : !port ? "port" : NULL;
    char *text;

    if (missing) {
        qmp_fail(call, -EINVAL, "Parameter 'addr.data.%s' is missing", missing);
        return NULL;
    }
    int r = is_unix ? asprintf(&text, "unix:%s", path)
                    : asprintf(&text, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
    if (r < 0) {
        qmp_fail(call, -ENOMEM, "no memory for an address");
        return NULL;
    }
    return text;
}

QMP_RUN(qmp_nbd_start)
{
    struct qmp_server *s = call->server;
    struct nbd_server_config config = *s->config.nbd_config;
    json_int_t clients = qmp_arg_int(call, "max-connections", 0);
    struct nbd_server *nbd = NULL;

    AUTO_FREE char *address = address_text(call);
    if (!address) {
        return NULL;
    }
    if (*s->config.nbd || s->nbd_starting) {
        return qmp_fail(call, -EBUSY, "NBD server already running");
    }
    if (clients < 0 || clients > NBD_CLIENTS_MAX) {
        return qmp_fail(call, -EINVAL, "Parameter 'max-connections' expects a number from 0 to %u",
                        NBD_CLIENTS_MAX);
    }
    config.max_clients = clients > 0 ? (unsigned)clients : config.max_clients;
    if (nbd_server_create(&config, &nbd, &call->err) < 0) {
        return NULL;
    }
    s->nbd_starting = true; /* listening may wait for a name to be looked up */
    int r = nbd_server_listen(nbd, address, &call->err);
    s->nbd_starting = false;
    if (r < 0 || s->stopping) {
        nbd_server_stop(nbd);
        nbd_server_wait(nbd);
        nbd_server_destroy(nbd);
        return r < 0 ? NULL : qmp_fail(call, -ESHUTDOWN, "the server ends");
    }
    *s->config.nbd = nbd;
    return json_object();
}

struct ending {
    struct qmp_server *server;
    struct nbd_server *nbd;
};

/* Is one of the server's exports being waited for by end_export? */
static struct qmp_export *find_of(const struct qmp_server *s, const struct nbd_server *nbd, bool removed)
{
    struct qmp_export *e;

    list_for_each (e, &s->exports, link) {
        if (e->nbd == nbd && (e->removed != NULL) == removed) {
            return e;
        }
    }
    return NULL;
}

static void end_nbd(void *arg)
{
    struct ending *end = arg;
    struct qmp_server *s = end->server;
    struct qmp_export *e;

    nbd_server_wait(end->nbd);
    while (find_of(s, end->nbd, true)) {
        co_queue_wait(&s->changed);
    }
    nbd_server_destroy(end->nbd);
    while ((e = find_of(s, end->nbd, false))) {
        export_gone(e);
    }
    free(end);
    s->busy--;
    co_queue_wake_all(&s->changed);
}

QMP_RUN(qmp_nbd_stop)
{
    struct qmp_server *s = call->server;
    struct nbd_server *nbd = *s->config.nbd;
    struct ending *end = nbd ? malloc(sizeof(*end)) : NULL;
    struct qmp_export *e;

    if (!nbd) {
        return qmp_fail(call, -ENOENT, "NBD server not running");
    }
    if (end) {
        *end = (struct ending){s, nbd};
    }
    if (!end || co_start_later(end_nbd, end) < 0) {
        free(end);
        return qmp_fail(call, -ENOMEM, "no memory to end the NBD server");
    }
    s->busy++;
    *s->config.nbd = NULL;
    list_for_each (e, &s->exports, link) {
        e->ending |= e->nbd == nbd;
    }
    nbd_server_stop(nbd);
    return json_object();
}

/* ---- exports ---- */

static bool is_id(const char *id)
{
    bool good = isalpha((unsigned char)*id);

    for (const char *p = id; good && *p; p++) {
        good = isalnum((unsigned char)*p) || strchr("-._", *p);
    }
    return good;
}

static co_fn json_t *add_nbd(struct qmp_call *call, const char *id, struct node *n)
{
    struct qmp_server *s = call->server;
    const char *name = qmp_arg_str(call, "name") ?: qmp_arg_str(call, "node-name");
    struct nbd_server *nbd = *s->config.nbd;

    int r = nbd_server_export(nbd, name, n, !qmp_arg_bool(call, "writable", false),
                              qmp_arg_str(call, "description"), &call->err);
    if (r == -EEXIST) {
        return qmp_fail(call, r, "NBD server already has export named '%.100s'", name);
    }
    return r < 0 || qmp_server_add_export(s, id, name, n, &call->err) < 0 ? NULL : json_object();
}

static co_fn json_t *add_fuse(struct qmp_call *call, const char *id, struct node *n)
{
    struct qmp_server *s = call->server;
    const char *others = qmp_arg_str(call, "allow-other") ?: "auto";
    const struct fuse_export_config want = {
        .mountpoint = qmp_arg_str(call, "mountpoint"),
        .node = n,
        .read_only = !qmp_arg_bool(call, "writable", false),
        .growable = qmp_arg_bool(call, "growable", false),
        .allow_other = strcmp(others, "auto") == 0 ? geteuid() == 0 : strcmp(others, "on") == 0,
    };

    if (!s->config.fuse_make) {
        return qmp_fail(call, -ENOTSUP, "this server has no FUSE exports");
    }
    struct qmp_export *e = new_export(s, id, "", n, &call->err);
    if (!e) {
        return NULL;
    }
    e->starting = true; /* mounting waits */
    int r = s->config.fuse_make(s->config.opaque, &want, &e->fuse, &call->err);
    e->starting = false;
    if (r < 0) {
        export_free(e);
        return NULL;
    }
    return json_object();
}

/* What the arguments of the two types are: the table has all of them. */
static int check_export_args(struct qmp_call *call, bool fuse)
{
    static const struct {
        const char *name;
        bool fuse;
    } own[] = {{"name", false},
               {"description", false},
               {"mountpoint", true},
               {"growable", true},
               {"allow-other", true}};

    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        if (qmp_arg(call, own[i].name) && own[i].fuse != fuse) {
            qmp_fail(call, -EINVAL, "Parameter '%s' is unexpected", own[i].name);
            return -EINVAL;
        }
    }
    if (fuse && !qmp_arg(call, "mountpoint")) {
        qmp_fail(call, -EINVAL, "Parameter 'mountpoint' is missing");
        return -EINVAL;
    }
    return 0;
}

QMP_RUN(qmp_export_add)
{
    struct qmp_server *s = call->server;
    const char *id = qmp_arg_str(call, "id"), *node_name_arg = qmp_arg_str(call, "node-name");
    struct node *n = qmp_find_node(s, node_name_arg) ?: qmp_find_disk(s, node_name_arg);
    bool writable = qmp_arg_bool(call, "writable", false);
    bool fuse = strcmp(qmp_arg_str(call, "type"), "fuse") == 0;

    if (check_export_args(call, fuse) < 0) {
        return NULL;
    }

    if (!is_id(id)) {
        return qmp_fail(call, -EINVAL, "Invalid block export id");
    }
    if (find_export(s, id)) {
        return qmp_fail(call, -EEXIST, "Block export id '%.100s' is already in use", id);
    }
    if (!n) {
        return qmp_fail(call, -ENOENT, "Cannot find device='' nor node-name='%.100s'", node_name_arg);
    }
    if (!fuse && !*s->config.nbd) {
        return qmp_fail(call, -EINVAL, "NBD server not running");
    }
    if (writable && node_is_read_only(n)) {
        return qmp_fail(call, -EPERM, "Cannot export read-only node as writable");
    }
    return fuse ? add_fuse(call, id, n) : add_nbd(call, id, n);
}

static void end_export(void *arg)
{
    struct qmp_export *e = arg;
    struct qmp_server *s = e->server;

    if (e->fuse) {
        s->config.fuse_end(s->config.opaque, e->fuse);
    } else {
        nbd_server_unexport_wait(e->nbd, e->removed);
    }
    export_gone(e);
    s->busy--;
    co_queue_wake_all(&s->changed);
}

static int begin_end(struct qmp_export *e)
{
    e->ending = true;
    e->server->busy++;
    int r = co_start_later(end_export, e);
    e->server->busy -= r < 0;
    return r;
}

void qmp_server_fuse_gone(struct qmp_server *s, const struct fuse_export *fuse)
{
    struct qmp_export *e;

    list_for_each (e, &s->exports, link) {
        if (e->fuse == fuse && !e->ending) {
            begin_end(e); /* without memory it is listed, as ending, until the end */
            return;
        }
    }
}

static int stop_fuse(struct qmp_export *e, bool hard)
{
    if (!hard && fuse_export_opens(e->fuse) > 0) {
        return -EBUSY;
    }
    fuse_export_stop(e->fuse);
    return 0;
}

QMP_RUN(qmp_export_del)
{
    struct qmp_server *s = call->server;
    const char *id = qmp_arg_str(call, "id"), *mode = qmp_arg_str(call, "mode");
    struct qmp_export *e = find_export(s, id);
    bool hard = mode && strcmp(mode, "hard") == 0;

    if (!e || e->starting) {
        return qmp_fail(call, -ENOENT, "Export '%.100s' is not found", id);
    }
    if (e->ending) {
        return qmp_fail(call, -EBUSY, "Export '%s' is already shutting down", id);
    }
    int r =
        e->fuse ? stop_fuse(e, hard) : nbd_server_unexport(e->nbd, e->name, hard, &e->removed, &call->err);
    if (r < 0) {
        return r == -EBUSY ? qmp_fail(call, r, "export '%s' still in use", id) : NULL;
    }
    if (begin_end(e) < 0) { /* then this client waits */
        s->busy++;
        end_export(e);
    }
    return json_object();
}

QMP_RUN(qmp_query_exports)
{
    json_t *list = json_array();
    const struct qmp_export *e;

    list_for_each (e, &call->server->exports, link) {
        if (!e->starting) {
            json_array_append_new(list,
                                  json_pack("{s:s, s:s, s:s, s:b, s:s}", "id", e->id, "type",
                                            e->fuse ? "fuse" : "nbd", "node-name", node_name(e->node),
                                            "shutting-down", (int)e->ending, e->fuse ? "mountpoint" : "name",
                                            e->fuse ? fuse_export_path(e->fuse) : e->name));
        }
    }
    return list;
}

/* ---- their clients ---- */

void qmp_server_nbd_client(struct qmp_server *s, const struct nbd_client_info *info)
{
    qmp_server_event(s, info->connected ? "CLIENT_CONNECT" : "CLIENT_DISCONNECT",
                     json_pack("{s:s, s:I, s:s, s:s}", "type", "nbd", "client", (json_int_t)info->id,
                               "export", info->export, "address", info->address));
}
