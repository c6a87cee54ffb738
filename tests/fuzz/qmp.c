/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile QMP clients, on the simulated network, in front of a disk with fault rules. The first byte says how
 * far a well-formed client goes before the bytes take over:
 *   bit 0  capabilities negotiated; bit 1  with out-of-band commands
 *   bit 2  the bytes are pieces of commands from a dictionary instead of raw bytes
 *   bit 3  the connection breaks at the end, instead of being closed
 * Whatever comes, the server ends the connection without a crash, a leak or a hang, and the disk is served;
 * and where the client could not have named a command that changes rules, the rules are as they were.
 */
#include <sys/socket.h>

#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "qmp/qmp.h"
#include "sim/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
};

static int drain(void *arg)
{
    const int *fd = arg;
    char buf[4096];

    while (sock_recv(*fd, buf, sizeof(buf)) > 0) {
    }
    return 0;
}

static co_fn void put(int fd, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};

    if (len > 0) {
        sock_send_all(fd, &iov, 1);
    }
}

/* Nothing that opens files of the host, and nothing that ends the server. */
static const char *const words[] = {
    "{\"execute\":\"blkdebug-set-rules\",\"arguments\":{\"device\":\"disk\",\"rules\":",
    "{\"execute\":\"fault-add\",\"arguments\":{\"rules\":",
    "{\"execute\":\"fault-set\",\"arguments\":{\"id\":\"keep\",\"set\":",
    "{\"execute\":\"fault-remove\",\"arguments\":{\"id\":\"keep\"}}",
    "{\"execute\":\"fault-transaction\",\"arguments\":{\"actions\":[{\"type\":\"add\",\"rules\":",
    "{\"execute\":\"wait-for\",\"arguments\":{\"id\":\"keep\",\"timeout\":",
    "{\"execute\":\"hang-release\",\"arguments\":",
    "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"null-co\",\"node-name\":",
    "{\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":",
    "{\"execute\":\"blockdev-reopen\",\"arguments\":{\"options\":[",
    "{\"execute\":\"block-export-add\",\"arguments\":{\"type\":\"nbd\",\"id\":",
    "{\"execute\":\"query-named-block-nodes\"}",
    "{\"execute\":\"query-qmp-schema\",\"id\":",
    "{\"exec-oob\":\"query-faults\",\"id\":",
    "{\"exec-oob\":\"state-set\",\"arguments\":{\"state\":",
    "{\"execute\":\"stop\"}",
    "{\"execute\":\"cont\"}",
    "{\"execute\":\"verify-query\"}",
    "{\"execute\":\"scrub\"}",
    "{\"event\":\"write_aio\",\"type\":\"inject-error\",\"once\":1}",
    "{\"action\":\"error\",\"op\":\"read\"}",
    "{\"action\":\"hang\",\"op\":[\"write\",\"flush\"]}",
    "\"ranges\":[\"0+4k\"]",
    "\"every\":",
    "\"n0\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "1",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "'\\''",
    "\"\\ud800\"",
    "\xff",
    "\r\n",
};

static co_fn void put_words(int fd, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const char *word = words[data[i] % ARRAY_SIZE(words)];
        put(fd, word, strlen(word));
    }
}

/* Raw bytes that name no command that could change rules. */
static bool is_harmless(const struct input *in)
{
    return !(in->data[0] & 4) && !memmem(in->data, in->size, "fault-", 6) &&
           !memmem(in->data, in->size, "rules", 5) && !memmem(in->data, in->size, "state-set", 9) &&
           !memmem(in->data, in->size, "\\u", 2);
}

static void check_disk(struct node *n, const struct input *in)
{
    char buf[512];

    if (is_harmless(in)) {
        json_t *list = fault_list(n);
        if (json_array_size(list) != 1 || fault_state(n) != 1) {
            abort();
        }
        json_decref(list);
    }
    struct fault_change clear = {.node = n, .kind = FAULT_CLEAR};
    if (fault_apply(&clear, 1, NULL) < 0 || node_read(n, 0, buf, sizeof(buf)) < 0) {
        abort();
    }
}

static void nothing(void *opaque)
{
}

static co_fn void session_with(struct qmp_server *s, const struct input *in)
{
    const struct sim_net net = {.chunk_max = 512};
    uint8_t how = in->data[0];
    int fd[2];

    if (sim_pair(&net, fd) < 0 || qmp_server_adopt(s, fd[0]) < 0) {
        abort();
    }
    struct co_group group;
    struct co_task task;
    co_group_init(&group);
    co_group_start(&group, &task, drain, &fd[1]);
    if (how & 1) {
        const char *hello = how & 2 ? "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
                                    : "{'execute':'qmp_capabilities'}";
        put(fd[1], hello, strlen(hello));
    }
    if (how & 4) {
        put_words(fd[1], in->data + 1, in->size - 1);
    } else if (!memmem(in->data, in->size, "blockdev", 8) && !memmem(in->data, in->size, "\\u", 2)) {
        put(fd[1], in->data + 1, in->size - 1); /* no files of the host */
    }
    if (how & 8) {
        sim_net_break(fd[1]);
    } else {
        shutdown(fd[1], SHUT_WR);
    }
    co_group_wait(&group);
    close(fd[1]);
}

static int session(void *arg)
{
    const struct input *in = arg;
    struct graph g;
    struct node *n = NULL;
    struct qmp_server *s = NULL;
    struct nbd_server *nbd = NULL;
    const struct nbd_server_config nbd_config = {.handshake_timeout_ns = NS_PER_SEC};
    const struct qmp_config config = {.graph = &g, .nbd = &nbd, .nbd_config = &nbd_config, .quit = nothing};

    graph_init(&g);
    if (node_open_opts(&g, "driver=fault,node-name=f,file.driver=null,file.size=1M", OPEN_WRITE, &n, NULL) <
            0 ||
        nbd_server_create(&nbd_config, &nbd, NULL) < 0 || qmp_server_create(&config, &s, NULL) < 0 ||
        qmp_server_add_disk(s, "disk", n, NULL) < 0) {
        abort();
    }
    json_t *rule = json_pack("{s:s, s:s, s:s}", "id", "keep", "action", "error", "op", "write");
    struct fault_change add = {.node = n, .kind = FAULT_ADD, .rules = rule};
    if (fault_apply(&add, 1, NULL) < 0) {
        abort();
    }
    json_decref(rule);
    session_with(s, in);
    check_disk(n, in);
    qmp_server_stop(s, "host-signal");
    if (nbd) {
        nbd_server_stop(nbd);
        nbd_server_wait(nbd);
    }
    node_unhold(n, true);
    qmp_server_wait(s);
    qmp_server_destroy(s);
    nbd_server_destroy(nbd);
    node_unref(n);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > 0) {
        sim_run(1, session, &in, NULL);
    }
    return 0;
}
