/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QMP server, private to this folder.
 *
 *   stream.c      bytes to messages
 *   server.c      listeners, the beginning and the end
 *   conn.c        a client: three coroutines that read, execute and write, and what is queued between them
 *   dispatch.c    a message to a command, its result to a reply
 *   event.c       events: the table, rate limits, who gets them
 *   schema.c, introspect.c, commands.c   the tables and what reads them
 *   find.c        disks and nodes by their names
 *   cmd_*.c       the commands
 */
#ifndef QMP_INTERNAL_H
#define QMP_INTERNAL_H

#include "block/driver.h"
#include "export/listen.h"
#include "qmp/qmp.h"
#include "qmp/schema.h"
#include "qmp/stream.h"

/* What a client has sent and was not executed yet. QEMU queues 8 commands, too. */
#define QMP_QUEUE_MAX 8u
/* What it has not taken yet. Above the first, events are left out (and counted); above the second, its next
 * command waits. One reply is always queued, so the whole is bounded by the second and the largest reply. */
#define QMP_EVENTS_BYTES_MAX (256 * KiB)
#define QMP_OUT_BYTES_MAX    (1 * MiB)
#define QMP_DRAIN_NS         (2 * NS_PER_SEC) /* after a stop: a client that takes no replies is cut off */
#define QMP_EVENT_GAP_NS     NS_PER_SEC       /* between events of a kind that is limited; as QEMU */

#define QMP_LIMIT_BUCKETS 256u

/* ---- clients ---- */

struct qmp_request {
    struct list link;
    json_t *message; /* or NULL: */
    char *wrong;     /* what was wrong with it; NULL: no memory */
};

struct qmp_chunk { /* text on its way out */
    struct list link;
    size_t len, sent;
    char *text;
};

struct qmp_conn {
    struct qmp_server *server;
    struct list link; /* server->conns */
    int fd;
    unsigned id; /* of this client, in events and messages */
    struct qmp_stream stream;
    bool negotiated, oob;
    struct list requests;
    unsigned nrequests;
    struct list out;
    size_t out_bytes;
    uint64_t events_lost;
    struct qmp_call *call; /* being executed, or NULL */
    bool ended;            /* the client sends no more */
    bool gone;             /* it takes no replies either, or the server ends: commands need not wait on */
    bool dead;             /* the socket is of no use: nothing is sent any more */
    bool closing;          /* the executor has ended */
    bool quit;             /* when the reply is queued */
    bool executor_alive, writer_alive;
    struct co_queue work;      /* the executor waits for a request, */
    struct co_queue drained;   /* or for room in out */
    struct co_queue room;      /* the reader waits for room in requests */
    struct co_queue send_work; /* the writer waits for text */
    struct co_queue changed;   /* the reader, at its end, waits for the others */
};

/* Owns @fd. */
int qmp_conn_start(struct qmp_server *s, int fd);
/* The server ends: execute no more. */
void qmp_conn_stop(struct qmp_conn *c);
void qmp_conn_fail(struct qmp_conn *c);
/* Queue @message, used up, and a line end. */
void qmp_conn_put(struct qmp_conn *c, json_t *message);
/* Queue an event, if there is room. */
void qmp_conn_put_event(struct qmp_conn *c, const char *line, size_t len);

/* ---- a command being executed ---- */

struct qmp_call {
    struct qmp_server *server;
    struct qmp_conn *conn;
    json_t *args; /* an object */
    const char *error_class;
    struct err err;
    struct node *waits_in; /* a fault node for whose rules it waits, or NULL */
};

/* The reply to @message, or NULL if there is none to give. @oob: it came out of turn. */
co_fn json_t *qmp_dispatch(struct qmp_conn *c, json_t *message);
json_t *qmp_error_reply(const char *error_class, const char *text);
/* Does @message ask to be executed out of turn, and may it? */
bool qmp_is_oob(const struct qmp_conn *c, const json_t *message);

/* Set the error; returns NULL, so that one can write `return qmp_fail(call, ...)`. */
json_t *qmp_fail(struct qmp_call *call, int code, const char *fmt, ...) PRINTF(3, 4);
json_t *qmp_fail_class(struct qmp_call *call, const char *error_class, const char *fmt, ...) PRINTF(3, 4);
/* Should a command that waits give up? */
static inline bool qmp_is_gone(const struct qmp_call *call)
{
    return call->conn->gone;
}

/* Arguments, which have been checked against the table. NULL, @def: not given. */
const char *qmp_arg_str(const struct qmp_call *call, const char *name);
bool qmp_arg_bool(const struct qmp_call *call, const char *name, bool def);
json_int_t qmp_arg_int(const struct qmp_call *call, const char *name, json_int_t def);
json_t *qmp_arg(const struct qmp_call *call, const char *name);

/* ---- the server ---- */

struct qmp_listener {
    struct qmp_server *server;
    struct listener at;
    bool accepting; /* its coroutine is alive */
};

struct qmp_disk {
    char *id;
    struct node *node;
};

struct qmp_server {
    struct qmp_config config;
    struct qmp_listener listeners[QMP_LISTENERS_MAX];
    unsigned nlisteners;
    struct list conns;
    unsigned nconns, next_conn;
    struct qmp_disk *disks;
    unsigned ndisks;
    struct list nodes;                     /* of struct qmp_node: made by blockdev-add */
    struct list exports;                   /* of struct qmp_export */
    struct list limits[QMP_LIMIT_BUCKETS]; /* of struct limit: see event.c */
    unsigned nlimits;
    struct co_queue slot;    /* acceptors that wait for a client to leave */
    struct co_queue changed; /* qmp_server_wait */
    struct timer drain_timer;
    unsigned busy; /* coroutines that belong to no client */
    bool nbd_starting;
    bool stopping, told_shutdown;
    bool told_full, told_starved;
};

void qmp_notice(const struct qmp_server *s, const char *fmt, ...) PRINTF(2, 3);

/* event.c */
void qmp_event_drop_all(struct qmp_server *s);
/* What the limit holds back, because the end has come. */
void qmp_event_send_held(struct qmp_server *s);
/* cmd_monitor.c: as in the greeting */
json_t *qmp_version(void);
/* {"seconds": ..., "microseconds": ...} of the wall clock, as in QEMU. */
json_t *qmp_timestamp(void);

/* find.c: by device or node name. NULL: there is none. */
struct node *qmp_find_disk(const struct qmp_server *s, const char *id);
struct node *qmp_find_node(const struct qmp_server *s, const char *name);
/* The device that @n is part of, or "". */
const char *qmp_disk_of(const struct qmp_server *s, const struct node *n);
/* What the arguments device and node-name mean, one of which must be given; else the call's error is
 * set as QEMU does. */
struct node *qmp_arg_node(struct qmp_call *call);

/* cmd_fault.c: a call that waits is over */
void qmp_fault_wake(struct qmp_call *call);
struct fault_event;
/* ... for graph->fault */
void qmp_fault_raised(struct graph *g, const struct fault_event *e);

/* cmd_export.c, cmd_node.c: the end */
co_fn void qmp_exports_finish(struct qmp_server *s);
co_fn void qmp_nodes_finish(struct qmp_server *s);

#endif
