/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of nbd.h at run time, and the parsers of what has no fixed size. */
#include "wire/nbd.h"

#define NBD_ROW(msg, field, off, bits, kind, magic) {#field, off, bits, NBD_FIELD_##kind, magic},
#define NBD_ROWS(msg, FIELDS, bytes, from_client)                                                            \
    static const struct nbd_field fields_##msg[] = {FIELDS(NBD_ROW)};
NBD_MESSAGES(NBD_ROWS)

#define NBD_LAYOUT(msg, FIELDS, bytes, from_client)                                                          \
    {#msg, from_client, bytes, ARRAY_SIZE(fields_##msg), fields_##msg},
const struct nbd_layout nbd_layouts[] = {NBD_MESSAGES(NBD_LAYOUT){0}};

const struct nbd_layout *nbd_layout_find(const char *name)
{
    for (const struct nbd_layout *l = nbd_layouts; l->name; l++) {
        if (strcmp(l->name, name) == 0) {
            return l;
        }
    }
    return NULL;
}

uint64_t nbd_field_get(const struct nbd_field *f, const void *wire)
{
    const uint8_t *p = (const uint8_t *)wire + f->offset;
    switch (f->bits) {
    case 16:
        return get_be16(p);
    case 32:
        return get_be32(p);
    default:
        return get_be64(p);
    }
}

void nbd_field_put(const struct nbd_field *f, void *wire, uint64_t value)
{
    uint8_t *p = (uint8_t *)wire + f->offset;
    switch (f->bits) {
    case 16:
        put_be16(p, (uint16_t)value);
        return;
    case 32:
        put_be32(p, (uint32_t)value);
        return;
    default:
        put_be64(p, value);
    }
}

/* A 32-bit length and as many bytes, taken off the front of @p. */
static int take_string(const uint8_t **p, uint32_t *left, struct nbd_string *ret_string)
{
    if (*left < 4) {
        return -EINVAL;
    }
    uint32_t len = get_be32(*p);
    if (len > *left - 4 || len > NBD_STRING_MAX) {
        return -EINVAL;
    }
    *ret_string = (struct nbd_string){(const char *)*p + 4, len};
    *p += 4 + len;
    *left -= 4 + len;
    return 0;
}

int nbd_info_query_parse(const void *data, uint32_t len, struct nbd_info_query *ret_query)
{
    const uint8_t *p = data;
    struct nbd_info_query q = {0};
    int rc = take_string(&p, &len, &q.name);
    if (rc < 0) {
        return rc;
    }
    if (len < 2) {
        return -EINVAL;
    }
    q.count = get_be16(p);
    q.types = p + 2;
    if (len - 2 != q.count * 2u) {
        return -EINVAL;
    }
    *ret_query = q;
    return 0;
}

bool nbd_info_query_has(const struct nbd_info_query *q, uint16_t type)
{
    for (unsigned i = 0; i < q->count; i++) {
        if (get_be16(q->types + 2 * i) == type) {
            return true;
        }
    }
    return false;
}

int nbd_meta_query_parse(const void *data, uint32_t len, struct nbd_meta_query *ret_query)
{
    const uint8_t *p = data;
    struct nbd_meta_query q = {0};
    int rc = take_string(&p, &len, &q.name);
    if (rc < 0) {
        return rc;
    }
    if (len < 4) {
        return -EINVAL;
    }
    q.count = get_be32(p);
    q.next = p + 4;
    q.left = len - 4;

    struct nbd_meta_query walk = q;
    struct nbd_string text;
    for (uint32_t i = 0; i < q.count; i++) {
        if (take_string(&walk.next, &walk.left, &text) < 0) {
            return -EINVAL;
        }
    }
    if (walk.left != 0) {
        return -EINVAL;
    }
    *ret_query = q;
    return 0;
}

bool nbd_meta_query_next(struct nbd_meta_query *q, struct nbd_string *ret_text)
{
    return take_string(&q->next, &q->left, ret_text) == 0;
}

bool nbd_string_is(struct nbd_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

uint32_t nbd_error_from_errno(int code)
{
    switch (code < 0 ? -code : code) {
    case 0:
        return NBD_SUCCESS;
    case EPERM:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case EOPNOTSUPP: /* ENOTSUP on Linux */
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

const char *nbd_opt_name(uint32_t option)
{
    static const char *const names[] = {
        [NBD_OPT_EXPORT_NAME] = "NBD_OPT_EXPORT_NAME",
        [NBD_OPT_ABORT] = "NBD_OPT_ABORT",
        [NBD_OPT_LIST] = "NBD_OPT_LIST",
        [NBD_OPT_STARTTLS] = "NBD_OPT_STARTTLS",
        [NBD_OPT_INFO] = "NBD_OPT_INFO",
        [NBD_OPT_GO] = "NBD_OPT_GO",
        [NBD_OPT_STRUCTURED_REPLY] = "NBD_OPT_STRUCTURED_REPLY",
        [NBD_OPT_LIST_META_CONTEXT] = "NBD_OPT_LIST_META_CONTEXT",
        [NBD_OPT_SET_META_CONTEXT] = "NBD_OPT_SET_META_CONTEXT",
        [NBD_OPT_EXTENDED_HEADERS] = "NBD_OPT_EXTENDED_HEADERS",
    };
    return option < ARRAY_SIZE(names) && names[option] ? names[option] : "unknown";
}

const char *nbd_cmd_name(uint16_t cmd)
{
    static const char *const names[] = {
        [NBD_CMD_READ] = "NBD_CMD_READ",
        [NBD_CMD_WRITE] = "NBD_CMD_WRITE",
        [NBD_CMD_DISC] = "NBD_CMD_DISC",
        [NBD_CMD_FLUSH] = "NBD_CMD_FLUSH",
        [NBD_CMD_TRIM] = "NBD_CMD_TRIM",
        [NBD_CMD_CACHE] = "NBD_CMD_CACHE",
        [NBD_CMD_WRITE_ZEROES] = "NBD_CMD_WRITE_ZEROES",
        [NBD_CMD_BLOCK_STATUS] = "NBD_CMD_BLOCK_STATUS",
    };
    return cmd < ARRAY_SIZE(names) && names[cmd] ? names[cmd] : "unknown";
}
