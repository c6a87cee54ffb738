/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD server against clients that are written byte by byte: well-behaved ones with many requests
 * in flight, checked against a model, over a network that cuts the stream anywhere; and clients that
 * lie, stall, flood and vanish. Time is virtual: a ten-second timeout takes none.
 */
#include "world.h"

#include <poll.h>
#include <sys/socket.h>

#include "block/presence.h"
#include "export/nbd/conn.h"

#define DISK_BYTES (4 * MiB)

struct setup {
    struct world w;
    struct nbd_server *server;
    struct sim_file *file;
    struct nbd_server_config config;
    uint32_t chunk_max; /* of the network */
    bool read_only;
    bool verified; /* serve a blkverify device; "reference" is its other side */
    unsigned left; /* clients that were served and have gone */
};

static void client_changed(void *opaque, const struct nbd_client_info *info)
{
    ((struct setup *)opaque)->left += !info->connected;
}

static void begin(struct setup *s)
{
    world_init(&s->w);
    s->left = 0;
    s->file = sim_file_create("disk", &(struct sim_disk){.size = DISK_BYTES});
    CHECK(s->file != NULL);
    if (s->verified) {
        CHECK(sim_file_create("reference", &(struct sim_disk){.size = DISK_BYTES}) != NULL);
        WORLD_OPEN(&s->w,
                   "{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"file\",\"filename\":\"reference\"},"
                   "\"test\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"disk\"}}}");
    } else {
        WORLD_OPEN(&s->w, "{\"driver\":\"file\",\"filename\":\"disk\"}");
    }
    s->config.client_changed = client_changed;
    s->config.opaque = s;
    if (!s->config.handshake_timeout_ns) {
        s->config.handshake_timeout_ns = NBD_HANDSHAKE_DEFAULT_NS;
    }
    CHECK_EQ(nbd_server_create(&s->config, &s->server, NULL), 0);
    CHECK_EQ(nbd_server_export(s->server, "disk", s->w.node, s->read_only, "a disk", NULL), 0);
}

static void end(struct setup *s)
{
    nbd_server_stop(s->server);
    nbd_server_wait(s->server);
    CHECK_EQ(nbd_server_clients(s->server), 0);
    CHECK_EQ(s->server->in_flight, 0);
    CHECK_EQ(s->server->bytes, 0);
    nbd_server_destroy(s->server);
    world_close(&s->w);
}

/* ---- a client ---- */

static int dial(struct setup *s)
{
    int fd[2];

    CHECK_EQ(sim_pair(&(struct sim_net){.chunk_max = s->chunk_max}, fd), 0);
    CHECK_EQ(nbd_server_adopt(s->server, fd[1]), 0);
    return fd[0];
}

static void tell(int fd, const void *data, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)data, n};
    CHECK_EQ(sock_send_all(fd, &iov, 1), 0);
}

/* Exactly @n bytes; false at the end of the stream. */
static bool hear(int fd, void *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = sock_recv(fd, (char *)buf + done, n - done);
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

static bool hears_end(int fd)
{
    char c;
    return sock_recv(fd, &c, 1) <= 0;
}

static void tell_option(int fd, uint32_t option, const void *data, uint32_t n)
{
    uint8_t head[NBD_BYTES_option];

    nbd_option_put(head, (struct nbd_option){NBD_OPT_MAGIC, option, n});
    tell(fd, head, sizeof(head));
    if (n > 0) {
        tell(fd, data, n);
    }
}

/* One option reply; its data (cut at @max) into @data. */
static struct nbd_option_reply hear_reply(int fd, uint32_t option, void *data, size_t max)
{
    uint8_t head[NBD_BYTES_option_reply], byte;

    CHECK(hear(fd, head, sizeof(head)));
    struct nbd_option_reply r = nbd_option_reply_get(head);
    CHECK(r.magic == NBD_OPT_REPLY_MAGIC);
    CHECK_EQ(r.option, option);
    CHECK(hear(fd, data, MIN(r.length, max)));
    for (size_t i = max; i < r.length; i++) {
        CHECK(hear(fd, &byte, 1));
    }
    return r;
}

static uint32_t reply_to(int fd, uint32_t option, const void *data, uint32_t n)
{
    uint8_t sink[64];

    tell_option(fd, option, data, n);
    return hear_reply(fd, option, sink, sizeof(sink)).type;
}

static void greet(int fd)
{
    static const uint8_t flags[4] = {0, 0, 0, 3};
    uint8_t hello[18];

    CHECK(hear(fd, hello, sizeof(hello)));
    CHECK(memcmp(hello, "NBDMAGICIHAVEOPT\0\3", 18) == 0);
    tell(fd, flags, sizeof(flags));
}

static const uint8_t go_default[] = {0, 0, 0, 0, 0, 0};

/* Through the handshake with structured replies and base:allocation, or with neither. */
static int log_in(struct setup *s, bool structured)
{
    static const uint8_t query[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";
    uint8_t data[32];
    int fd = dial(s);

    greet(fd);
    if (structured) {
        CHECK_EQ(reply_to(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
        CHECK(reply_to(fd, NBD_OPT_SET_META_CONTEXT, query, sizeof(query) - 1) == NBD_REP_META_CONTEXT);
        CHECK(hear_reply(fd, NBD_OPT_SET_META_CONTEXT, data, 0).type == NBD_REP_ACK);
    }
    tell_option(fd, NBD_OPT_GO, go_default, sizeof(go_default));
    CHECK_EQ(hear_reply(fd, NBD_OPT_GO, data, 12).type, NBD_REP_INFO);
    struct nbd_info_export info = nbd_info_export_get(data);
    CHECK_EQ(info.info, NBD_INFO_EXPORT);
    CHECK_EQ(info.size, DISK_BYTES);
    CHECK_EQ(!!(info.flags & NBD_FLAG_READ_ONLY), s->read_only);
    CHECK_EQ(!!(info.flags & NBD_FLAG_SEND_DF), structured);
    CHECK(info.flags & NBD_FLAG_CAN_MULTI_CONN);
    CHECK_EQ(hear_reply(fd, NBD_OPT_GO, data, 0).type, NBD_REP_ACK);
    return fd;
}

static void ask(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
    uint8_t wire[NBD_BYTES_request];

    nbd_request_put(wire, (struct nbd_request){NBD_REQUEST_MAGIC, flags, type, cookie, offset, length});
    tell(fd, wire, sizeof(wire));
}

struct answer {
    uint64_t cookie, offset;
    uint32_t error;
    uint16_t type; /* of the chunk; NONE for a simple reply */
    uint32_t bytes;
    uint8_t data[64 * KiB];
};

static void hear_chunk(int fd, const uint8_t *first, struct answer *a)
{
    uint8_t head[NBD_BYTES_chunk], text[256];

    memcpy(head, first, 4);
    CHECK(hear(fd, head + 4, sizeof(head) - 4));
    struct nbd_chunk c = nbd_chunk_get(head);
    CHECK_EQ(c.flags, NBD_REPLY_FLAG_DONE);
    a->cookie = c.cookie;
    a->type = c.type;
    if (c.type == NBD_REPLY_TYPE_OFFSET_DATA) {
        CHECK(hear(fd, head, NBD_BYTES_chunk_data));
        a->offset = nbd_chunk_data_get(head).offset;
        a->bytes = c.length - NBD_BYTES_chunk_data;
    } else if (c.type == NBD_REPLY_TYPE_BLOCK_STATUS) {
        CHECK(hear(fd, head, 4));
        CHECK_EQ(nbd_chunk_status_get(head).context, 1);
        a->bytes = c.length - 4;
    } else if (c.type == NBD_REPLY_TYPE_ERROR) {
        CHECK(hear(fd, head, NBD_BYTES_chunk_error));
        struct nbd_chunk_error e = nbd_chunk_error_get(head);
        CHECK(e.error != 0);
        CHECK_EQ(c.length, NBD_BYTES_chunk_error + e.message_length);
        CHECK(e.message_length < sizeof(text) && hear(fd, text, e.message_length));
        a->error = e.error;
        return;
    } else {
        CHECK_EQ(c.type, NBD_REPLY_TYPE_NONE);
        CHECK_EQ(c.length, 0);
    }
    CHECK(a->bytes <= sizeof(a->data) && hear(fd, a->data, a->bytes));
}

/* One reply. A simple one to a read that succeeded brings @simple_bytes of data. */
static void hear_answer(int fd, struct answer *a, uint32_t simple_bytes)
{
    uint8_t head[NBD_BYTES_simple_reply];

    memset(a, 0, offsetof(struct answer, data));
    CHECK(hear(fd, head, 4));
    if (get_be32(head) == NBD_STRUCTURED_REPLY_MAGIC) {
        hear_chunk(fd, head, a);
        return;
    }
    CHECK(get_be32(head) == NBD_SIMPLE_REPLY_MAGIC);
    CHECK(hear(fd, head + 4, sizeof(head) - 4));
    struct nbd_simple_reply r = nbd_simple_reply_get(head);
    a->cookie = r.cookie;
    a->error = r.error;
    if (r.error == 0 && simple_bytes > 0) {
        a->bytes = simple_bytes;
        CHECK(hear(fd, a->data, simple_bytes));
    }
}

/* Ask and expect this error, 0 for success. */
static void ask_expect(int fd, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                       uint32_t error)
{
    static struct answer a;
    static uint64_t cookie = 1000;

    ask(fd, type, flags, ++cookie, offset, length);
    hear_answer(fd, &a, 0);
    CHECK_EQ(a.cookie, cookie);
    CHECK_EQ(a.error, error);
}

static void say_goodbye(int fd)
{
    ask(fd, NBD_CMD_DISC, 0, 0, 0, 0);
    CHECK(hears_end(fd));
    close(fd);
}

#define SCENARIO(name)                                                                                       \
    static int name##_scenario(void *arg);                                                                   \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        for (uint64_t seed = seed_from_env(1); seed <= seed_from_env(3); seed++) {                           \
            struct setup *s = calloc(1, sizeof(*s));                                                         \
            s->chunk_max = seed == 1 ? 0 : 40;                                                               \
            world_run(seed, name##_scenario, s);                                                             \
            free(s);                                                                                         \
        }                                                                                                    \
    }                                                                                                        \
    static int name##_scenario(void *arg)

/* ---- option haggling ---- */

SCENARIO(the_handshake_answers_every_option)
{
    static const uint8_t info[] = "\0\0\0\4disk\0\3\0\1\0\2\0\3";
    struct setup *s = arg;
    uint8_t data[64];

    begin(s);
    int fd = dial(s);
    greet(fd);
    tell_option(fd, NBD_OPT_LIST, NULL, 0);
    struct nbd_option_reply r = hear_reply(fd, NBD_OPT_LIST, data, sizeof(data));
    CHECK_EQ(r.type, NBD_REP_SERVER);
    CHECK_EQ(r.length, 14);
    CHECK(memcmp(data, "\0\0\0\4diska disk", 14) == 0);
    CHECK_EQ(hear_reply(fd, NBD_OPT_LIST, data, 0).type, NBD_REP_ACK);

    tell_option(fd, NBD_OPT_INFO, info, sizeof(info) - 1);
    CHECK_EQ(hear_reply(fd, NBD_OPT_INFO, data, 12).type, NBD_REP_INFO);
    CHECK_EQ(nbd_info_export_get(data).size, DISK_BYTES);
    CHECK_EQ(hear_reply(fd, NBD_OPT_INFO, data, 14).type, NBD_REP_INFO);
    struct nbd_info_block_size sizes = nbd_info_block_size_get(data);
    CHECK_EQ(sizes.info, NBD_INFO_BLOCK_SIZE);
    CHECK_EQ(sizes.minimum, 1);
    CHECK_EQ(sizes.preferred, 4096);
    CHECK_EQ(sizes.maximum, 33554432);
    r = hear_reply(fd, NBD_OPT_INFO, data, sizeof(data));
    CHECK(r.length == 6 && memcmp(data, "\0\1disk", 6) == 0);
    r = hear_reply(fd, NBD_OPT_INFO, data, sizeof(data));
    CHECK(r.length == 8 && memcmp(data, "\0\2a disk", 8) == 0);
    CHECK_EQ(hear_reply(fd, NBD_OPT_INFO, data, 0).type, NBD_REP_ACK);

    CHECK(reply_to(fd, 77, "12345", 5) == NBD_REP_ERR_UNSUP);
    CHECK(reply_to(fd, NBD_OPT_EXTENDED_HEADERS, NULL, 0) == NBD_REP_ERR_UNSUP);
    CHECK(reply_to(fd, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ERR_POLICY);
    CHECK(reply_to(fd, NBD_OPT_LIST, "x", 1) == NBD_REP_ERR_INVALID);
    CHECK(reply_to(fd, NBD_OPT_STRUCTURED_REPLY, "x", 1) == NBD_REP_ERR_INVALID);
    CHECK(reply_to(fd, NBD_OPT_GO, "\0\0\0\1x\0\0", 7) == NBD_REP_ERR_UNKNOWN);
    CHECK(reply_to(fd, NBD_OPT_GO, "\0\0\0\100x\0\0", 7) == NBD_REP_ERR_INVALID);
    CHECK(reply_to(fd, NBD_OPT_SET_META_CONTEXT, "\0\0\0\0\0\0\0\0", 8) == NBD_REP_ERR_INVALID);
    CHECK(reply_to(fd, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK);
    CHECK(hears_end(fd));
    close(fd);
    end(s);
    CHECK_EQ(s->left, 0);
    return 0;
}

SCENARIO(contexts_are_selected_and_listed)
{
    static const uint8_t all[] = "\0\0\0\0\0\0\0\0";
    static const uint8_t wild[] = "\0\0\0\0\0\0\0\1\0\0\0\5base:";
    static const uint8_t other[] = "\0\0\0\0\0\0\0\1\0\0\0\14qemu:dirty-x";
    struct setup *s = arg;
    uint8_t data[64];

    begin(s);
    int fd = dial(s);
    greet(fd);
    CHECK_EQ(reply_to(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
    for (int i = 0; i < 2; i++) {
        tell_option(fd, NBD_OPT_LIST_META_CONTEXT, i ? wild : all, i ? sizeof(wild) - 1 : sizeof(all) - 1);
        struct nbd_option_reply r = hear_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, sizeof(data));
        CHECK_EQ(r.type, NBD_REP_META_CONTEXT);
        CHECK(r.length == 19 && memcmp(data + 4, "base:allocation", 15) == 0);
        CHECK_EQ(hear_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, 0).type, NBD_REP_ACK);
    }
    /* None of these selects anything, and so there is no block status. */
    CHECK_EQ(reply_to(fd, NBD_OPT_SET_META_CONTEXT, all, sizeof(all) - 1), NBD_REP_ACK);
    CHECK_EQ(reply_to(fd, NBD_OPT_SET_META_CONTEXT, wild, sizeof(wild) - 1), NBD_REP_ACK);
    CHECK_EQ(reply_to(fd, NBD_OPT_SET_META_CONTEXT, other, sizeof(other) - 1), NBD_REP_ACK);
    tell_option(fd, NBD_OPT_GO, go_default, sizeof(go_default));
    hear_reply(fd, NBD_OPT_GO, data, 12);
    hear_reply(fd, NBD_OPT_GO, data, 0);
    ask_expect(fd, NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL);
    say_goodbye(fd);
    end(s);
    return 0;
}

SCENARIO(export_name_ends_with_124_zeroes)
{
    struct setup *s = arg;
    uint8_t data[134], zeroes[124] = {0}, flags[4] = {0, 0, 0, 1};

    begin(s);
    int fd = dial(s);
    CHECK(hear(fd, data, 18));
    tell(fd, flags, 4);
    tell_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
    CHECK(hear(fd, data, 134));
    CHECK_EQ(nbd_export_name_reply_get(data).size, DISK_BYTES);
    CHECK(memcmp(data + 10, zeroes, 124) == 0);
    ask_expect(fd, NBD_CMD_FLUSH, 0, 0, 0, 0);
    say_goodbye(fd);

    fd = dial(s);
    greet(fd);
    tell_option(fd, NBD_OPT_EXPORT_NAME, "nothing", 7);
    CHECK(hears_end(fd)); /* this option cannot say no */
    close(fd);
    end(s);
    return 0;
}

SCENARIO(nonsense_in_the_handshake_ends_it)
{
    static const uint8_t flags[4] = {0, 0, 0, 7};
    struct setup *s = arg;
    uint8_t hello[18];

    begin(s);
    int fd = dial(s);
    CHECK(hear(fd, hello, 18));
    tell(fd, flags, 4); /* a flag that nobody knows */
    CHECK(hears_end(fd));
    close(fd);
    fd = dial(s);
    greet(fd);
    tell(fd, "IHAVEOPX\0\0\0\3\0\0\0\0", 16);
    CHECK(hears_end(fd));
    close(fd);
    end(s);
    return 0;
}

static const uint8_t junk[100 * KiB];

SCENARIO(long_option_data_is_skipped)
{
    struct setup *s = arg;

    begin(s);
    int fd = dial(s);
    greet(fd);
    CHECK(reply_to(fd, NBD_OPT_GO, junk, sizeof(junk)) == NBD_REP_ERR_TOO_BIG);
    CHECK(reply_to(fd, 99, junk, sizeof(junk)) == NBD_REP_ERR_UNSUP);
    CHECK_EQ(reply_to(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
    CHECK(reply_to(fd, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK);
    close(fd);
    end(s);
    return 0;
}

SCENARIO(a_client_that_stalls_in_the_handshake_is_dropped)
{
    struct setup *s = arg;

    begin(s);
    int fd = dial(s);
    uint64_t before = loop_clock_ns();
    greet(fd);
    tell(fd, "IHAVE", 5);
    CHECK(hears_end(fd));
    uint64_t waited = loop_clock_ns() - before;
    CHECK(waited > 9 * NS_PER_SEC && waited < 11 * NS_PER_SEC);
    close(fd);
    /* One that is through may idle as long as it likes. */
    fd = log_in(s, true);
    co_sleep_ns(3600 * NS_PER_SEC);
    ask_expect(fd, NBD_CMD_FLUSH, 0, 0, 0, 0);
    say_goodbye(fd);
    end(s);
    return 0;
}

/* ---- requests that are refused ---- */

SCENARIO(what_is_wrong_with_a_request_is_answered)
{
    struct setup *s = arg;

    begin(s);
    int fd = log_in(s, true);
    ask_expect(fd, 99, 0, 0, 512, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_READ, 0x4000, 0, 512, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_READ, 0, DISK_BYTES - 511, 512, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_READ, 0, UINT64_MAX, 512, NBD_EINVAL); /* offset + length wraps */
    ask_expect(fd, NBD_CMD_TRIM, 0, DISK_BYTES, 1, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_CACHE, 0, DISK_BYTES, 1, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_WRITE_ZEROES, 0, 512, DISK_BYTES, NBD_ENOSPC);
    ask_expect(fd, NBD_CMD_BLOCK_STATUS, 0, DISK_BYTES - 1, 2, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL);
    ask_expect(fd, NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0, 0); /* FUA is valid everywhere */
    ask_expect(fd, NBD_CMD_CACHE, 0, 0, 4096, 0);
    ask_expect(fd, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096, 0);
    ask_expect(fd, NBD_CMD_READ, 0, 0, 0, 0);

    /* The payload of a refused write is passed over, whatever it looks like. */
    static struct answer a;
    ask(fd, NBD_CMD_WRITE, 0, 5, DISK_BYTES - 100, sizeof(junk));
    tell(fd, junk, sizeof(junk));
    hear_answer(fd, &a, 0);
    CHECK(a.cookie == 5 && a.error == NBD_ENOSPC);
    ask(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_DF, 6, 0, 1000);
    tell(fd, junk, 1000);
    hear_answer(fd, &a, 0);
    CHECK(a.cookie == 6 && a.error == NBD_EINVAL);
    ask_expect(fd, NBD_CMD_FLUSH, 0, 0, 0, 0);
    say_goodbye(fd);
    end(s);
    return 0;
}

SCENARIO(a_read_only_export_refuses_changes)
{
    struct setup *s = arg;
    static struct answer a;

    s->read_only = true;
    begin(s);
    int fd = log_in(s, false);
    ask_expect(fd, NBD_CMD_TRIM, 0, 0, 512, NBD_EPERM);
    ask_expect(fd, NBD_CMD_WRITE_ZEROES, 0, 0, 512, NBD_EPERM);
    ask(fd, NBD_CMD_WRITE, 0, 6, 0, 1000);
    tell(fd, junk, 1000);
    hear_answer(fd, &a, 0);
    CHECK_EQ(a.error, NBD_EPERM);
    ask_expect(fd, NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL); /* not negotiated */
    ask_expect(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL);
    say_goodbye(fd);
    end(s);
    return 0;
}

SCENARIO(a_request_without_magic_ends_the_connection_and_no_other)
{
    struct setup *s = arg;

    begin(s);
    int good = log_in(s, true), bad = log_in(s, true);
    tell(bad, junk, NBD_BYTES_request);
    CHECK(hears_end(bad));
    close(bad);
    ask_expect(good, NBD_CMD_FLUSH, 0, 0, 0, 0);
    say_goodbye(good);
    end(s);
    CHECK_EQ(s->left, 2);
    return 0;
}

/* ---- errors of the device ---- */

SCENARIO(a_read_error_is_answered_and_the_connection_lives)
{
    struct setup *s = arg;
    static struct answer a;

    begin(s);
    sim_set_faults(
        s->file,
        &(struct sim_fault){
            .op = SIM_READ, .nth = 1, .sticky = true, .error = -EIO, .offset = 8192, .bytes = 4096},
        1);
    for (int structured = 0; structured < 2; structured++) {
        int fd = log_in(s, structured);
        ask_expect(fd, NBD_CMD_READ, 0, 4096, 8192, NBD_EIO);
        ask(fd, NBD_CMD_READ, 0, 9, 0, 4096);
        hear_answer(fd, &a, 4096);
        CHECK(a.cookie == 9 && a.error == 0 && a.bytes == 4096);
        say_goodbye(fd);
    }
    sim_set_faults(s->file, NULL, 0);
    end(s);
    return 0;
}

SCENARIO(write_and_flush_errors_are_answered)
{
    struct setup *s = arg;
    static struct answer a;

    begin(s);
    struct sim_fault faults[] = {{.op = SIM_WRITE, .nth = 1, .sticky = true, .error = -ENOSPC},
                                 {.op = SIM_SYNC, .nth = 1, .sticky = true, .error = -EIO}};
    sim_set_faults(s->file, faults, ARRAY_SIZE(faults));
    int fd = log_in(s, true);
    ask(fd, NBD_CMD_WRITE, 0, 6, 0, 1000);
    tell(fd, junk, 1000);
    hear_answer(fd, &a, 0);
    CHECK(a.cookie == 6 && a.error == NBD_ENOSPC);
    ask_expect(fd, NBD_CMD_FLUSH, 0, 0, 0, NBD_EIO);
    sim_set_faults(s->file, NULL, 0);
    say_goodbye(fd);
    end(s);
    return 0;
}

/* ---- clients that vanish, stall, flood ---- */

SCENARIO(half_a_write_is_no_write)
{
    struct setup *s = arg;
    uint8_t byte, one[512];

    begin(s);
    memset(one, 1, sizeof(one));
    int fd = log_in(s, true);
    ask(fd, NBD_CMD_WRITE, 0, 6, 0, 100 * KiB); /* received into a buffer of its own */
    tell(fd, one, sizeof(one));
    close(fd);
    fd = log_in(s, true);
    ask(fd, NBD_CMD_WRITE, 0, 6, 0, 1024); /* would be used in place */
    tell(fd, one, sizeof(one));
    close(fd);
    end(s);
    sim_file_peek(s->file, 0, &byte, 1);
    CHECK_EQ(byte, 0);
    return 0;
}

SCENARIO(requests_of_a_client_that_vanished_finish)
{
    struct setup *s = arg;
    uint8_t one[4096], found[4096];

    begin(s);
    sim_file_set_latency(s->file, &(struct sim_latency){.min_ns = NS_PER_SEC, .max_ns = 2 * NS_PER_SEC});
    memset(one, 1, sizeof(one));
    int fd = log_in(s, true);
    for (unsigned i = 0; i < 8; i++) {
        ask(fd, NBD_CMD_WRITE, 0, i, i * 4096, 4096);
        tell(fd, one, sizeof(one));
    }
    co_sleep_ns(NS_PER_SEC / 2); /* all of them are under way, none has finished */
    close(fd);
    end(s);
    for (unsigned i = 0; i < 8; i++) {
        sim_file_peek(s->file, i * 4096, found, sizeof(found));
        CHECK(memcmp(found, one, sizeof(one)) == 0);
    }
    return 0;
}

SCENARIO(a_client_that_vanishes_leaves_both_sides_of_a_verified_disk_alike)
{
    struct setup *s = arg;
    static uint8_t data[8192], test[8192], raw[8192];
    struct rng rng;

    s->verified = true;
    rng_init(&rng, world_seed);
    begin(s);
    struct sim_file *reference = sim_file_find("reference");
    for (unsigned round = 0; round < 20; round++) {
        int fd = log_in(s, round % 2);
        unsigned n = 1 + (unsigned)rng_below(&rng, 12);
        for (unsigned i = 0; i < n; i++) {
            rng_fill(&rng, data, sizeof(data));
            uint64_t offset = 512 * rng_below(&rng, 64); /* they overlap */
            ask(fd, NBD_CMD_WRITE, 0, i, offset, sizeof(data));
            /* The last one breaks off somewhere. */
            tell(fd, data, i + 1 < n ? sizeof(data) : (size_t)rng_below(&rng, sizeof(data)));
        }
        co_sleep_ns(rng_below(&rng, 300000));
        sim_net_break(fd);
        close(fd);
    }
    end(s);
    CHECK_EQ(s->w.graph.mismatches, 0);
    for (uint64_t offset = 0; offset < 64 * KiB; offset += sizeof(test)) {
        sim_file_peek(s->file, offset, test, sizeof(test));
        sim_file_peek(reference, offset, raw, sizeof(raw));
        CHECK(memcmp(test, raw, sizeof(test)) == 0);
    }
    return 0;
}

SCENARIO(a_stop_answers_what_was_read)
{
    struct setup *s = arg;
    static struct answer a;
    unsigned seen = 0;

    begin(s);
    sim_file_set_latency(s->file, &(struct sim_latency){.min_ns = NS_PER_SEC, .max_ns = 2 * NS_PER_SEC});
    int fd = log_in(s, true);
    for (unsigned i = 0; i < 8; i++) {
        ask(fd, NBD_CMD_READ, 0, i, i * 4096, 4096);
    }
    co_sleep_ns(NS_PER_SEC / 2);
    nbd_server_stop(s->server);
    for (unsigned i = 0; i < 8; i++) {
        hear_answer(fd, &a, 0);
        CHECK(a.error == 0 && a.bytes == 4096);
        seen |= 1u << a.cookie;
    }
    CHECK_EQ(seen, 0xff);
    CHECK(hears_end(fd));
    close(fd);
    end(s);
    return 0;
}

/* A client is cut off when it does not take its replies, not when the device is slower than that. */
SCENARIO(a_stop_waits_for_a_slow_device)
{
    struct setup *s = arg;
    static struct answer a;

    begin(s);
    sim_file_set_latency(s->file,
                         &(struct sim_latency){.min_ns = 3 * NBD_DRAIN_NS, .max_ns = 4 * NBD_DRAIN_NS});
    int fd = log_in(s, true), full = log_in(s, true);
    for (unsigned i = 0; i < 8; i++) {
        ask(fd, NBD_CMD_READ, 0, i, i * 4096, 4096);
    }
    for (unsigned i = 0; i < 60; i++) { /* more than fits the socket, and nobody takes it */
        ask(full, NBD_CMD_READ, 0, i, 0, 1 * MiB);
    }
    co_sleep_ns(NS_PER_SEC / 2);
    nbd_server_stop(s->server);
    for (unsigned i = 0; i < 8; i++) {
        hear_answer(fd, &a, 0);
        CHECK(a.error == 0 && a.bytes == 4096);
    }
    CHECK(hears_end(fd));
    nbd_server_wait(s->server);
    close(fd);
    close(full);
    end(s);
    return 0;
}

SCENARIO(a_stop_does_not_wait_for_idle_clients)
{
    struct setup *s = arg;

    begin(s);
    int idle = log_in(s, true), stalled = dial(s);
    greet(stalled);
    uint64_t before = loop_clock_ns();
    nbd_server_stop(s->server);
    CHECK(hears_end(idle));
    CHECK(hears_end(stalled));
    nbd_server_wait(s->server);
    CHECK(loop_clock_ns() - before < NS_PER_SEC);
    close(idle);
    close(stalled);
    end(s);
    return 0;
}

struct flood {
    int fd;
    unsigned asked;
    bool broken;
};

/* Ask without end for data that nobody takes. */
static int flooder(void *arg)
{
    struct flood *f = arg;
    uint8_t wire[NBD_BYTES_request];

    nbd_request_put(wire, (struct nbd_request){NBD_REQUEST_MAGIC, 0, NBD_CMD_READ, 1, 0, MiB});
    for (;;) {
        struct iovec iov = {wire, sizeof(wire)};
        if (sock_send_all(f->fd, &iov, 1) < 0) {
            f->broken = true;
            return 0;
        }
        f->asked++;
    }
}

SCENARIO(a_flood_is_bounded_and_hurts_nobody)
{
    struct setup *s = arg;
    struct co_group g;
    struct co_task task;

    s->chunk_max = 0;
    begin(s);
    struct flood f = {.fd = log_in(s, true)};
    co_group_init(&g);
    co_group_start(&g, &task, flooder, &f);
    int fd = log_in(s, true);
    for (int i = 0; i < 200; i++) {
        ask_expect(fd, NBD_CMD_READ, 0, 0, 4096, 0);
        CHECK(s->server->bytes <= NBD_CONN_BYTES_MAX + NBD_PAYLOAD_MAX);
        CHECK(s->server->in_flight <= NBD_CONN_REQUESTS_MAX + 1);
    }
    co_sleep_ns(60 * NS_PER_SEC);
    CHECK(f.asked > 64); /* it was more than the server wants to hold */
    CHECK(s->server->bytes <= NBD_CONN_BYTES_MAX);
    ask_expect(fd, NBD_CMD_READ, 0, 0, 4096, 0);
    say_goodbye(fd);
    /* It takes nothing even when the server ends: cut off, after a while. */
    uint64_t before = loop_clock_ns();
    nbd_server_stop(s->server);
    nbd_server_wait(s->server);
    CHECK(loop_clock_ns() - before >= NBD_DRAIN_NS);
    co_group_wait(&g);
    CHECK(f.broken);
    close(f.fd);
    end(s);
    return 0;
}

SCENARIO(many_writes_in_place_wait_for_buffers)
{
    struct setup *s = arg;
    static struct answer a;
    static uint8_t block[16 * KiB], found[16 * KiB];
    unsigned n = 200; /* 3.2 MiB: more than RX_MAX buffers hold while nothing finishes */

    s->chunk_max = 0;
    begin(s);
    sim_file_set_latency(s->file, &(struct sim_latency){.min_ns = NS_PER_SEC, .max_ns = 9 * NS_PER_SEC});
    int fd = log_in(s, true);
    for (unsigned i = 0; i < n; i++) {
        memset(block, (int)i + 1, sizeof(block));
        ask(fd, NBD_CMD_WRITE, 0, i, i * sizeof(block), sizeof(block));
        tell(fd, block, sizeof(block));
    }
    for (unsigned i = 0; i < n; i++) {
        hear_answer(fd, &a, 0);
        CHECK_EQ(a.error, 0);
    }
    say_goodbye(fd);
    end(s);
    for (unsigned i = 0; i < n; i++) {
        memset(block, (int)i + 1, sizeof(block));
        sim_file_peek(s->file, i * sizeof(block), found, sizeof(found));
        CHECK(memcmp(found, block, sizeof(block)) == 0);
    }
    return 0;
}

struct stream {
    int fd;
    const uint8_t *data;
    size_t bytes;
};

#define STREAM_PIECE 7919 /* a prime: requests begin and end anywhere in it */

static int stream_out(void *arg)
{
    struct stream *st = arg;

    for (size_t at = 0; at < st->bytes; at += STREAM_PIECE) {
        tell(st->fd, st->data + at, MIN(st->bytes - at, (size_t)STREAM_PIECE));
    }
    return 0;
}

SCENARIO(requests_may_lie_across_receive_buffers)
{
    struct setup *s = arg;
    static struct answer a;
    static uint8_t found[5000], all[400 * (NBD_BYTES_request + sizeof(found))];
    struct co_group g;
    struct co_task task;
    uint8_t *p = all;

    s->chunk_max = 0;
    begin(s);
    for (unsigned i = 0; i < 400; i++, p += NBD_BYTES_request + sizeof(found)) {
        nbd_request_put(
            p, (struct nbd_request){NBD_REQUEST_MAGIC, 0, NBD_CMD_WRITE, i, i * 10000, sizeof(found)});
        memset(p + NBD_BYTES_request, (int)(i % 255) + 1, sizeof(found));
    }
    struct stream st = {log_in(s, true), all, sizeof(all)};
    co_group_init(&g);
    co_group_start(&g, &task, stream_out, &st);
    for (unsigned i = 0; i < 400; i++) {
        hear_answer(st.fd, &a, 0);
        CHECK_EQ(a.error, 0);
    }
    co_group_wait(&g);
    say_goodbye(st.fd);
    end(s);
    for (unsigned i = 0; i < 400; i++) {
        sim_file_peek(s->file, i * 10000, found, sizeof(found));
        CHECK(memcmp(found, all + i * sizeof(all) / 400 + NBD_BYTES_request, sizeof(found)) == 0);
    }
    return 0;
}

/* ---- block status ---- */

SCENARIO(block_status_tells_holes)
{
    struct setup *s = arg;
    static struct answer a;
    static uint8_t data[64 * KiB];

    begin(s);
    int fd = log_in(s, true);
    memset(data, 1, sizeof(data));
    ask(fd, NBD_CMD_WRITE, 0, 1, 1 * MiB, sizeof(data));
    tell(fd, data, sizeof(data));
    hear_answer(fd, &a, 0);
    CHECK_EQ(a.error, 0);

    ask(fd, NBD_CMD_BLOCK_STATUS, 0, 2, 0, DISK_BYTES);
    hear_answer(fd, &a, 0);
    CHECK_EQ(a.type, NBD_REPLY_TYPE_BLOCK_STATUS);
    CHECK_EQ(a.bytes, 3 * NBD_BYTES_extent);
    static const struct nbd_extent expected[] = {
        {MiB, NBD_STATE_HOLE | NBD_STATE_ZERO},
        {64 * KiB, 0},
        {DISK_BYTES - MiB - 64 * KiB, NBD_STATE_HOLE | NBD_STATE_ZERO},
    };
    for (unsigned i = 0; i < 3; i++) {
        struct nbd_extent e = nbd_extent_get(a.data + 8 * i);
        CHECK_EQ(e.length, expected[i].length);
        CHECK_EQ(e.flags, expected[i].flags);
    }

    ask(fd, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 3, MiB - 1000, DISK_BYTES / 2);
    hear_answer(fd, &a, 0);
    CHECK_EQ(a.bytes, NBD_BYTES_extent);
    CHECK_EQ(nbd_extent_get(a.data).length, 1000);
    say_goodbye(fd);
    end(s);
    return 0;
}

/* ---- a random client against a model ---- */

#define SLOTS      24 /* requests in flight, each in a piece of the disk of its own */
#define SLOT_BYTES (64 * KiB)

struct slot {
    uint8_t model[SLOT_BYTES];
    uint8_t payload[SLOT_BYTES];
    uint16_t type;
    uint32_t offset, length; /* in the slot */
    bool busy;
};

struct random_client {
    struct setup s;
    struct slot slots[SLOTS];
    struct rng rng;
    unsigned requests, asked, answered;
    bool structured;
};

static void ask_random(struct random_client *c, int fd, unsigned i)
{
    static const uint16_t types[] = {NBD_CMD_READ,  NBD_CMD_READ,         NBD_CMD_WRITE,
                                     NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLUSH};
    struct slot *slot = &c->slots[i];
    uint64_t max = rng_below(&c->rng, 4) ? 5000 : SLOT_BYTES; /* both sides of INPLACE_MAX */

    slot->busy = true;
    slot->type = types[rng_below(&c->rng, ARRAY_SIZE(types))];
    slot->length = 1 + (uint32_t)rng_below(&c->rng, max);
    slot->offset = (uint32_t)rng_below(&c->rng, SLOT_BYTES - slot->length + 1);
    uint16_t flags = rng_below(&c->rng, 8) == 0 ? NBD_CMD_FLAG_FUA : 0;
    flags |= slot->type == NBD_CMD_WRITE_ZEROES && rng_below(&c->rng, 2) ? NBD_CMD_FLAG_NO_HOLE : 0;
    flags |= slot->type == NBD_CMD_READ && c->structured && rng_below(&c->rng, 2) ? NBD_CMD_FLAG_DF : 0;
    if (slot->type == NBD_CMD_FLUSH) {
        ask(fd, slot->type, flags, i, 0, 0);
        return;
    }
    ask(fd, slot->type, flags, i, i * SLOT_BYTES + slot->offset, slot->length);
    if (slot->type == NBD_CMD_WRITE) {
        rng_fill(&c->rng, slot->payload, slot->length);
        memcpy(slot->model + slot->offset, slot->payload, slot->length);
        tell(fd, slot->payload, slot->length);
    } else if (slot->type == NBD_CMD_WRITE_ZEROES) {
        memset(slot->model + slot->offset, 0, slot->length);
    }
}

struct talker {
    struct random_client *c;
    int fd;
};

static int talk(void *arg)
{
    struct talker *t = arg;
    struct random_client *c = t->c;

    while (c->asked < c->requests) {
        unsigned i = (unsigned)rng_below(&c->rng, SLOTS);
        if (c->slots[i].busy) {
            co_sleep_ns(1000);
            continue;
        }
        c->asked++;
        ask_random(c, t->fd, i);
    }
    return 0;
}

/* Which slot a simple reply is for shows only in its cookie, so that its length is known late. */
static unsigned hear_random(struct random_client *c, int fd, struct answer *a)
{
    uint8_t head[NBD_BYTES_simple_reply];

    memset(a, 0, offsetof(struct answer, data));
    CHECK(hear(fd, head, 4));
    if (get_be32(head) == NBD_STRUCTURED_REPLY_MAGIC) {
        CHECK(c->structured);
        hear_chunk(fd, head, a);
    } else {
        CHECK(hear(fd, head + 4, 12));
        struct nbd_simple_reply r = nbd_simple_reply_get(head);
        CHECK(r.magic == NBD_SIMPLE_REPLY_MAGIC);
        CHECK(r.cookie < SLOTS);
        a->cookie = r.cookie;
        a->error = r.error;
        const struct slot *slot = &c->slots[r.cookie];
        if (slot->type == NBD_CMD_READ) {
            CHECK(!c->structured);
            a->bytes = slot->length;
            a->offset = r.cookie * SLOT_BYTES + slot->offset;
            CHECK(hear(fd, a->data, a->bytes));
        }
    }
    CHECK(a->cookie < SLOTS);
    return (unsigned)a->cookie;
}

static int random_run(void *arg)
{
    struct random_client *c = arg;
    static struct answer a;
    struct co_group g;
    struct co_task task;

    rng_init(&c->rng, world_seed);
    begin(&c->s);
    struct talker t = {c, log_in(&c->s, c->structured)};
    co_group_init(&g);
    co_group_start(&g, &task, talk, &t);
    for (; c->answered < c->requests; c->answered++) {
        struct slot *slot = &c->slots[hear_random(c, t.fd, &a)];
        CHECK(slot->busy);
        CHECK_EQ(a.error, 0);
        if (slot->type == NBD_CMD_READ) {
            CHECK_EQ(a.bytes, slot->length);
            CHECK_EQ(a.offset, a.cookie * SLOT_BYTES + slot->offset);
            CHECK(memcmp(a.data, slot->model + slot->offset, slot->length) == 0);
        }
        slot->busy = false;
    }
    co_group_wait(&g);
    say_goodbye(t.fd);
    end(&c->s);
    for (unsigned i = 0; i < SLOTS; i++) {
        sim_file_peek(c->s.file, i * SLOT_BYTES, a.data, SLOT_BYTES);
        CHECK(memcmp(a.data, c->slots[i].model, SLOT_BYTES) == 0);
    }
    return 0;
}

static void a_random_client_sees_what_the_model_says(void **state)
{
    static const uint32_t chunks[] = {0, 11, 1000, 70000};
    static const unsigned requests[] = {800, 60, 800, 800}; /* tiny pieces take their time */

    for (uint64_t seed = seed_from_env(1); seed <= seed_from_env(8); seed++) {
        uint64_t trace[2];
        for (int again = 0; again < 2; again++) {
            struct random_client *c = calloc(1, sizeof(*c));
            c->structured = seed % 2;
            c->s.chunk_max = chunks[seed % ARRAY_SIZE(chunks)];
            c->requests = requests[seed % ARRAY_SIZE(chunks)];
            trace[again] = world_run(seed, random_run, c);
            free(c);
        }
        assert_true(trace[0] == trace[1]);
    }
}

/* ---- a disk that goes and comes back ---- */

SCENARIO(a_disk_that_goes_drops_its_clients_and_refuses_new_ones)
{
    static const uint8_t name[] = "disk";
    struct setup *s = arg;

    begin(s);
    int fd = log_in(s, true), greeted = dial(s);
    greet(greeted);
    ask_expect(fd, NBD_CMD_WRITE_ZEROES, 0, 0, 512, 0);
    node_set_presence(s->w.node, PRESENCE_REFUSED);
    CHECK(hears_end(fd));
    CHECK(reply_to(greeted, NBD_OPT_GO, go_default, sizeof(go_default)) == NBD_REP_ERR_UNKNOWN);
    CHECK(reply_to(greeted, NBD_OPT_INFO, go_default, sizeof(go_default)) == NBD_REP_ERR_UNKNOWN);
    int old = dial(s);
    greet(old);
    tell_option(old, NBD_OPT_EXPORT_NAME, name, 4);
    CHECK(hears_end(old));
    node_set_presence(s->w.node, PRESENCE_HERE);
    CHECK(reply_to(greeted, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK); /* the same one may go on asking */
    CHECK(hears_end(greeted));
    int again = log_in(s, true);
    ask_expect(again, NBD_CMD_WRITE_ZEROES, 0, 0, 512, 0);
    say_goodbye(again);
    close(fd);
    close(old);
    close(greeted);
    end(s);
    CHECK_EQ(s->left, 2);
    return 0;
}

struct comeback {
    struct timer timer;
    struct node *node;
};

static void disk_is_back(struct timer *t)
{
    node_set_presence(container_of(t, struct comeback, timer)->node, PRESENCE_HERE);
}

SCENARIO(a_mute_disk_answers_new_clients_when_it_is_back)
{
    struct setup *s = arg;
    struct comeback back = {.timer.fire = disk_is_back};

    begin(s);
    back.node = s->w.node;
    int fd = log_in(s, false);
    node_set_presence(s->w.node, PRESENCE_MUTED);
    CHECK(hears_end(fd));
    close(fd);
    uint64_t from = loop_clock_ns(), down = 3 * NBD_HANDSHAKE_DEFAULT_NS;
    CHECK_EQ(timer_arm(&back.timer, from + down), 0);
    fd = log_in(s, true); /* longer than a client may take for its part */
    CHECK(loop_clock_ns() >= from + down);
    ask_expect(fd, NBD_CMD_FLUSH, 0, 0, 0, 0);
    say_goodbye(fd);

    /* and the end of the server does not wait for a disk that stays away */
    node_set_presence(s->w.node, PRESENCE_MUTED);
    fd = dial(s);
    greet(fd);
    tell_option(fd, NBD_OPT_GO, go_default, sizeof(go_default));
    co_sleep_ns(NS_PER_SEC);
    end(s);
    CHECK(hear_reply(fd, NBD_OPT_GO, &(uint8_t){0}, 0).type == NBD_REP_ERR_UNKNOWN);
    CHECK(hears_end(fd));
    close(fd);
    return 0;
}

SCENARIO(a_mute_export_can_be_removed)
{
    struct setup *s = arg;
    struct nbd_export *e;

    begin(s);
    node_set_presence(s->w.node, PRESENCE_MUTED);
    int fd = dial(s);
    greet(fd);
    tell_option(fd, NBD_OPT_GO, go_default, sizeof(go_default));
    co_sleep_ns(NS_PER_SEC);
    CHECK_EQ(nbd_server_unexport(s->server, "disk", true, &e, NULL), 0);
    CHECK(hear_reply(fd, NBD_OPT_GO, &(uint8_t){0}, 0).type == NBD_REP_ERR_UNKNOWN);
    close(fd);
    nbd_server_unexport_wait(s->server, e);
    end(s);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handshake_answers_every_option),
        cmocka_unit_test(contexts_are_selected_and_listed),
        cmocka_unit_test(export_name_ends_with_124_zeroes),
        cmocka_unit_test(nonsense_in_the_handshake_ends_it),
        cmocka_unit_test(long_option_data_is_skipped),
        cmocka_unit_test(a_client_that_stalls_in_the_handshake_is_dropped),
        cmocka_unit_test(what_is_wrong_with_a_request_is_answered),
        cmocka_unit_test(a_read_only_export_refuses_changes),
        cmocka_unit_test(a_request_without_magic_ends_the_connection_and_no_other),
        cmocka_unit_test(a_read_error_is_answered_and_the_connection_lives),
        cmocka_unit_test(write_and_flush_errors_are_answered),
        cmocka_unit_test(half_a_write_is_no_write),
        cmocka_unit_test(requests_of_a_client_that_vanished_finish),
        cmocka_unit_test(a_client_that_vanishes_leaves_both_sides_of_a_verified_disk_alike),
        cmocka_unit_test(a_stop_answers_what_was_read),
        cmocka_unit_test(a_stop_waits_for_a_slow_device),
        cmocka_unit_test(a_stop_does_not_wait_for_idle_clients),
        cmocka_unit_test(a_flood_is_bounded_and_hurts_nobody),
        cmocka_unit_test(many_writes_in_place_wait_for_buffers),
        cmocka_unit_test(requests_may_lie_across_receive_buffers),
        cmocka_unit_test(block_status_tells_holes),
        cmocka_unit_test(a_random_client_sees_what_the_model_says),
        cmocka_unit_test(a_disk_that_goes_drops_its_clients_and_refuses_new_ones),
        cmocka_unit_test(a_mute_disk_answers_new_clients_when_it_is_back),
        cmocka_unit_test(a_mute_export_can_be_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
