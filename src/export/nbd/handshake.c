/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Option haggling, from the greeting to the transmission phase. Each option has one function; they
 * share an answer for whatever is malformed. State that must not survive STARTTLS lives in the few
 * fields that forget() clears.
 */
#include <stdio.h>

#include "block/driver.h"
#include "export/nbd/conn.h"

/* Data of one option that we look at: two names of the largest size and a list. More is read and
 * refused. */
#define OPTION_DATA_MAX (16 * KiB)

/* Options per connection: a person trying them out needs dozens. */
#define OPTIONS_MAX 4096u

#define CONTEXT_ALLOCATION "base:allocation"

/* ---- replies ---- */

static int reply(struct nbd_conn *c, uint32_t option, uint32_t type, const struct iovec *data, int n)
{
    uint8_t head[NBD_BYTES_option_reply];
    struct iovec iov[4] = {{head, sizeof(head)}};
    uint32_t length = 0;

    assert(n < (int)ARRAY_SIZE(iov));
    for (int i = 0; i < n; i++) {
        iov[1 + i] = data[i];
        length += (uint32_t)data[i].iov_len;
    }
    nbd_option_reply_put(head,
                         (struct nbd_option_reply){
                             .magic = NBD_OPT_REPLY_MAGIC, .option = option, .type = type, .length = length});
    return conn_write(c, iov, 1 + n);
}

static int ack(struct nbd_conn *c, uint32_t option)
{
    return reply(c, option, NBD_REP_ACK, NULL, 0);
}

static struct iovec text_iov(const char *text)
{
    return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static int error(struct nbd_conn *c, uint32_t option, uint32_t type, const char *text)
{
    struct iovec iov = text_iov(text);
    return reply(c, option, type, &iov, 1);
}

static int malformed(struct nbd_conn *c, uint32_t option)
{
    return error(c, option, NBD_REP_ERR_INVALID, "the data of this option is malformed");
}

/* ---- exports ---- */

static const struct nbd_export *find_export(const struct nbd_server *s, struct nbd_string name)
{
    for (unsigned i = 0; i < s->nexports; i++) {
        if (nbd_string_is(name, s->exports[i]->name)) {
            return s->exports[i];
        }
    }
    return name.len == 0 && s->nexports > 0 ? s->exports[0] : NULL;
}

static uint16_t transmission_flags(const struct nbd_conn *c, const struct nbd_export *e)
{
    /* One loop and one graph serve every connection: a flush on one covers all. */
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
                     NBD_FLAG_SEND_CACHE;

    flags |= e->read_only ? NBD_FLAG_READ_ONLY
                          : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    flags |= c->structured ? NBD_FLAG_SEND_DF : 0;
    return (uint16_t)flags;
}

static uint32_t preferred_bytes(const struct nbd_export *e)
{
    const struct limits *l = &e->node->limits;
    uint32_t preferred = l->preferred ? l->preferred : 4096;

    preferred = MAX(preferred, l->align);
    preferred = MAX(preferred, SECTOR_SIZE);
    return is_pow2(preferred) ? MIN(preferred, (uint32_t)NBD_PAYLOAD_MAX) : 4096;
}

/* What was negotiated so far is void: at the beginning, and after STARTTLS. */
static void forget(struct nbd_conn *c)
{
    c->structured = false;
    c->meta_export = NULL;
}

/* A disk that has gone and is mute lets its clients wait. True when it is there. */
static bool is_here(struct nbd_conn *c, const struct nbd_export *e)
{
    uint64_t limit = c->server->config.handshake_timeout_ns;
    bool muted = e->watch.presence == PRESENCE_MUTED;

    if (muted) {
        timer_disarm(&c->handshake_timer); /* it is not the client who takes so long */
    }
    while (e->watch.presence == PRESENCE_MUTED && !e->removed && !c->dead && !c->stopping) {
        co_queue_wait(&c->room);
    }
    if (muted && limit != UINT64_MAX && timer_arm(&c->handshake_timer, loop_clock_ns() + limit) < 0) {
        return false;
    }
    return e->watch.presence == PRESENCE_HERE && !e->removed && !c->dead && !c->stopping;
}

/* ---- one function per option: 0 go on, 1 enter the transmission phase, -errno ---- */

static int opt_export_name(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    uint8_t answer[NBD_BYTES_export_name_reply + NBD_OLD_ZEROES_BYTES] = {0};

    const struct nbd_export *e = find_export(c->server, (struct nbd_string){(const char *)data, len});
    if (!e || !is_here(c, e)) {
        return -ECONNRESET; /* this option has no way to say no */
    }
    c->export = e;
    nbd_export_name_reply_put(answer,
                              (struct nbd_export_name_reply){.size = node_size(c->export->node),
                                                             .flags = transmission_flags(c, c->export)});
    struct iovec iov = {answer, c->no_zeroes ? NBD_BYTES_export_name_reply : sizeof(answer)};
    int rc = conn_write(c, &iov, 1);
    return rc < 0 ? rc : 1;
}

static int opt_abort(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    ack(c, NBD_OPT_ABORT); /* the client may have gone already */
    return -ECONNRESET;
}

static int opt_list(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    if (len > 0) {
        return malformed(c, NBD_OPT_LIST);
    }
    for (unsigned i = 0; i < c->server->nexports; i++) {
        const struct nbd_export *e = c->server->exports[i];
        uint8_t length[4];
        put_be32(length, (uint32_t)strlen(e->name));
        struct iovec iov[] = {
            {length, sizeof(length)}, text_iov(e->name), text_iov(e->description ? e->description : "")};
        int rc = reply(c, NBD_OPT_LIST, NBD_REP_SERVER, iov, ARRAY_SIZE(iov));
        if (rc < 0) {
            return rc;
        }
    }
    return ack(c, NBD_OPT_LIST);
}

static int opt_starttls(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    struct err err = {0};

    if (len > 0) {
        return malformed(c, NBD_OPT_STARTTLS);
    }
    if (c->tls) {
        return error(c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "TLS has been started already");
    }
    if (!c->server->creds) {
        return error(c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "this server does not offer TLS");
    }
    if (conn_avail(c) > 0) {
        return -EPROTO; /* plain text that somebody wants us to take for encrypted */
    }
    int rc = ack(c, NBD_OPT_STARTTLS);
    if (rc < 0) {
        return rc;
    }
    forget(c);
    rc = nbd_tls_start(c, &err);
    if (rc < 0 && err.text[0]) {
        nbd_notice(c->server, "%s", err.text);
    }
    return rc;
}

static int send_info(struct nbd_conn *c, uint32_t option, const struct nbd_export *e,
                     const struct nbd_info_query *q)
{
    uint8_t buf[NBD_BYTES_info_block_size];
    struct iovec iov[2] = {{buf, NBD_BYTES_info_export}};

    nbd_info_export_put(buf, (struct nbd_info_export){.info = NBD_INFO_EXPORT,
                                                      .size = node_size(e->node),
                                                      .flags = transmission_flags(c, e)});
    int rc = reply(c, option, NBD_REP_INFO, iov, 1);
    if (rc == 0 && nbd_info_query_has(q, NBD_INFO_BLOCK_SIZE)) {
        nbd_info_block_size_put(buf, (struct nbd_info_block_size){.info = NBD_INFO_BLOCK_SIZE,
                                                                  .minimum = 1,
                                                                  .preferred = preferred_bytes(e),
                                                                  .maximum = NBD_PAYLOAD_MAX});
        iov[0].iov_len = NBD_BYTES_info_block_size;
        rc = reply(c, option, NBD_REP_INFO, iov, 1);
    }
    iov[0].iov_len = 2;
    if (rc == 0 && nbd_info_query_has(q, NBD_INFO_NAME)) {
        put_be16(buf, NBD_INFO_NAME);
        iov[1] = text_iov(e->name);
        rc = reply(c, option, NBD_REP_INFO, iov, 2);
    }
    if (rc == 0 && e->description && nbd_info_query_has(q, NBD_INFO_DESCRIPTION)) {
        put_be16(buf, NBD_INFO_DESCRIPTION);
        iov[1] = text_iov(e->description);
        rc = reply(c, option, NBD_REP_INFO, iov, 2);
    }
    return rc;
}

static int info_or_go(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    struct nbd_info_query q;

    if (nbd_info_query_parse(data, len, &q) < 0) {
        return malformed(c, option);
    }
    const struct nbd_export *e = find_export(c->server, q.name);
    if (!e) {
        return error(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
    }
    if (!is_here(c, e)) {
        return error(c, option, NBD_REP_ERR_UNKNOWN, "the disk of this export has gone");
    }
    int rc = send_info(c, option, e, &q);
    if (rc == 0) {
        rc = ack(c, option);
    }
    if (rc < 0 || option == NBD_OPT_INFO) {
        return rc;
    }
    c->export = e;
    return 1;
}

static int opt_info(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    return info_or_go(c, NBD_OPT_INFO, data, len);
}

static int opt_go(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    return info_or_go(c, NBD_OPT_GO, data, len);
}

static int opt_structured_reply(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    if (len > 0) {
        return malformed(c, NBD_OPT_STRUCTURED_REPLY);
    }
    c->structured = true;
    return ack(c, NBD_OPT_STRUCTURED_REPLY);
}

/* Does the client ask for base:allocation? No query at all means "all there are" when listing; a
 * wildcard selects nothing when setting. */
static bool asks_allocation(struct nbd_meta_query q, bool list)
{
    struct nbd_string text;
    bool found = list && q.count == 0;

    for (uint32_t i = 0; i < q.count && nbd_meta_query_next(&q, &text); i++) {
        found |= nbd_string_is(text, CONTEXT_ALLOCATION) || (list && nbd_string_is(text, "base:"));
    }
    return found;
}

static int meta_context(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    bool list = option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_meta_query q;

    if (!list) {
        c->meta_export = NULL; /* also when this fails */
    }
    if (!c->structured) {
        return error(c, option, NBD_REP_ERR_INVALID, "metadata contexts need structured replies");
    }
    if (nbd_meta_query_parse(data, len, &q) < 0) {
        return malformed(c, option);
    }
    const struct nbd_export *e = find_export(c->server, q.name);
    if (!e) {
        return error(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
    }
    if (asks_allocation(q, list)) {
        uint8_t id[4];
        put_be32(id, list ? 0 : 1);
        struct iovec iov[] = {{id, sizeof(id)}, text_iov(CONTEXT_ALLOCATION)};
        int rc = reply(c, option, NBD_REP_META_CONTEXT, iov, ARRAY_SIZE(iov));
        if (rc < 0) {
            return rc;
        }
        if (!list) {
            c->meta_export = e;
        }
    }
    return ack(c, option);
}

static int opt_list_meta(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    return meta_context(c, NBD_OPT_LIST_META_CONTEXT, data, len);
}

static int opt_set_meta(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    return meta_context(c, NBD_OPT_SET_META_CONTEXT, data, len);
}

typedef int opt_fn(struct nbd_conn *c, const uint8_t *data, uint32_t len);

static opt_fn *const options[] = {
    [NBD_OPT_EXPORT_NAME] = opt_export_name,
    [NBD_OPT_ABORT] = opt_abort,
    [NBD_OPT_LIST] = opt_list,
    [NBD_OPT_STARTTLS] = opt_starttls,
    [NBD_OPT_INFO] = opt_info,
    [NBD_OPT_GO] = opt_go,
    [NBD_OPT_STRUCTURED_REPLY] = opt_structured_reply,
    [NBD_OPT_LIST_META_CONTEXT] = opt_list_meta,
    [NBD_OPT_SET_META_CONTEXT] = opt_set_meta,
};

/* ---- the dialogue ---- */

/* The option is not to be looked at: its data is read and forgotten. */
static int skip_option(struct nbd_conn *c, const struct nbd_option *o, uint32_t type, const char *text)
{
    int rc = conn_skip(c, o->length);
    if (rc == 0 && o->option == NBD_OPT_EXPORT_NAME) {
        return -ECONNRESET;
    }
    return rc < 0 ? rc : error(c, o->option, type, text);
}

static int one_option(struct nbd_conn *c)
{
    int rc = conn_need(c, NBD_BYTES_option);
    if (rc < 0) {
        return rc;
    }
    struct nbd_option o = nbd_option_get(conn_at(c));
    if (o.magic != NBD_OPT_MAGIC) {
        return -EPROTO;
    }
    c->head += NBD_BYTES_option;

    opt_fn *fn = o.option < ARRAY_SIZE(options) ? options[o.option] : NULL;
    if (c->server->config.tls == NBD_TLS_REQUIRE && !c->tls && fn != opt_starttls && fn != opt_abort) {
        return skip_option(c, &o, NBD_REP_ERR_TLS_REQD, "this server talks only over TLS");
    }
    if (!fn) {
        return skip_option(c, &o, NBD_REP_ERR_UNSUP, "this option is not supported");
    }
    if (o.length > OPTION_DATA_MAX) {
        return skip_option(c, &o, NBD_REP_ERR_TOO_BIG, "the data of this option is too long");
    }
    rc = conn_need(c, o.length);
    if (rc < 0) {
        return rc;
    }
    const uint8_t *data = conn_at(c);
    c->head += o.length;
    return fn(c, data, o.length);
}

static int greet(struct nbd_conn *c)
{
    uint8_t hello[NBD_BYTES_greeting];
    struct iovec iov = {hello, sizeof(hello)};

    nbd_greeting_put(hello, (struct nbd_greeting){.magic = NBD_MAGIC,
                                                  .opt_magic = NBD_OPT_MAGIC,
                                                  .flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES});
    int rc = conn_write(c, &iov, 1);
    if (rc == 0) {
        rc = conn_need(c, NBD_BYTES_client_flags);
    }
    if (rc < 0) {
        return rc;
    }
    uint32_t flags = nbd_client_flags_get(conn_at(c)).flags;
    c->head += NBD_BYTES_client_flags;
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        return -EPROTO; /* "the server MUST drop the TCP connection" */
    }
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return 0;
}

int nbd_handshake(struct nbd_conn *c)
{
    int rc = greet(c);

    for (unsigned i = 0; rc == 0 && i < OPTIONS_MAX; i++) {
        rc = one_option(c);
    }
    return rc == 1 ? 0 : rc == 0 ? -ECONNRESET : rc;
}
