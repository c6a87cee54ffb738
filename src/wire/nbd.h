/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD protocol (https://github.com/NetworkBlockDevice/nbd, doc/proto.md): its constants and the
 * layout of every fixed-size message, each described once. Server, fuzzers and tests share it.
 *
 * A layout is a list of fields: name, offset in bytes, width in bits, kind. From the list come the
 * C struct (host byte order), nbd_X_get and nbd_X_put (wire bytes, big-endian), NBD_X_BYTES, and
 * the run-time table nbd_layouts that the fuzzers generate and damage messages from. Variable
 * parts (names, queries, payloads) follow the fixed ones and are parsed by the functions below.
 */
#ifndef WIRE_NBD_H
#define WIRE_NBD_H

#include "base/bytes.h"
#include "base/util.h"

/* Magic numbers. */
#define NBD_MAGIC                  UINT64_C(0x4e42444d41474943) /* "NBDMAGIC": the greeting */
#define NBD_OPT_MAGIC              UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPT_REPLY_MAGIC        UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC          0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC     0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu

/* Handshake flags (server) and client flags: the same two bits. */
enum {
    NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_NO_ZEROES = 1 << 1,
};

/* Transmission flags of an export. */
enum {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_ROTATIONAL = 1 << 4,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_opt {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11, /* an experimental extension: known by name only */
};

/* Option replies; errors have bit 31 set. */
#define NBD_REP_ERR_BIT UINT32_C(0x80000000)
enum {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP           (NBD_REP_ERR_BIT | 1)
#define NBD_REP_ERR_POLICY          (NBD_REP_ERR_BIT | 2)
#define NBD_REP_ERR_INVALID         (NBD_REP_ERR_BIT | 3)
#define NBD_REP_ERR_PLATFORM        (NBD_REP_ERR_BIT | 4)
#define NBD_REP_ERR_TLS_REQD        (NBD_REP_ERR_BIT | 5)
#define NBD_REP_ERR_UNKNOWN         (NBD_REP_ERR_BIT | 6)
#define NBD_REP_ERR_SHUTDOWN        (NBD_REP_ERR_BIT | 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERR_BIT | 8)
#define NBD_REP_ERR_TOO_BIG         (NBD_REP_ERR_BIT | 9)

/* Information types of NBD_OPT_INFO and NBD_OPT_GO. */
enum {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

enum nbd_cmd {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

enum {
    NBD_REPLY_FLAG_DONE = 1 << 0,
};

/* Structured reply types; errors have bit 15 set. */
#define NBD_REPLY_TYPE_ERR_BIT 0x8000u
enum {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_ERROR = 0x8001,
    NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002,
};

/* Flags of base:allocation. */
enum {
    NBD_STATE_HOLE = 1 << 0,
    NBD_STATE_ZERO = 1 << 1,
};

/* Error values on the wire: these numbers, whatever the host's errno says. */
enum {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

#define NBD_STRING_MAX       4096u      /* bytes of any name: "String values" of the specification */
#define NBD_PAYLOAD_MAX      (32 * MiB) /* what every server has to take: "Size constraints" */
#define NBD_OLD_ZEROES_BYTES 124u       /* after an NBD_OPT_EXPORT_NAME reply, unless NO_ZEROES */
#define NBD_PORT             10809

/* What a field means to somebody who generates or damages messages. */
enum nbd_field_kind {
    NBD_FIELD_MAGIC,  /* one right value: .magic of the layout's row */
    NBD_FIELD_FLAGS,  /* bit mask */
    NBD_FIELD_TYPE,   /* one of a list of numbers */
    NBD_FIELD_COOKIE, /* opaque, given back */
    NBD_FIELD_OFFSET, /* bytes from the beginning of the export */
    NBD_FIELD_LENGTH, /* bytes of the export */
    NBD_FIELD_FOLLOW, /* bytes that follow the message */
    NBD_FIELD_SIZE,   /* size in bytes */
    NBD_FIELD_COUNT,  /* number of things that follow */
    NBD_FIELD_ERROR,  /* an NBD error value */
};

/* ---- the layouts: F(message, field, offset in bytes, width in bits, kind, magic or 0) ---- */

#define NBD_GREETING_FIELDS(F)                                                                               \
    F(greeting, magic, 0, 64, MAGIC, NBD_MAGIC)                                                              \
    F(greeting, opt_magic, 8, 64, MAGIC, NBD_OPT_MAGIC)                                                      \
    F(greeting, flags, 16, 16, FLAGS, 0)

#define NBD_CLIENT_FLAGS_FIELDS(F) F(client_flags, flags, 0, 32, FLAGS, 0)

#define NBD_OPTION_FIELDS(F)                                                                                 \
    F(option, magic, 0, 64, MAGIC, NBD_OPT_MAGIC)                                                            \
    F(option, option, 8, 32, TYPE, 0)                                                                        \
    F(option, length, 12, 32, FOLLOW, 0)

#define NBD_OPTION_REPLY_FIELDS(F)                                                                           \
    F(option_reply, magic, 0, 64, MAGIC, NBD_OPT_REPLY_MAGIC)                                                \
    F(option_reply, option, 8, 32, TYPE, 0)                                                                  \
    F(option_reply, type, 12, 32, TYPE, 0)                                                                   \
    F(option_reply, length, 16, 32, FOLLOW, 0)

#define NBD_EXPORT_NAME_REPLY_FIELDS(F)                                                                      \
    F(export_name_reply, size, 0, 64, SIZE, 0)                                                               \
    F(export_name_reply, flags, 8, 16, FLAGS, 0)

#define NBD_INFO_EXPORT_FIELDS(F)                                                                            \
    F(info_export, info, 0, 16, TYPE, 0)                                                                     \
    F(info_export, size, 2, 64, SIZE, 0)                                                                     \
    F(info_export, flags, 10, 16, FLAGS, 0)

#define NBD_INFO_BLOCK_SIZE_FIELDS(F)                                                                        \
    F(info_block_size, info, 0, 16, TYPE, 0)                                                                 \
    F(info_block_size, minimum, 2, 32, SIZE, 0)                                                              \
    F(info_block_size, preferred, 6, 32, SIZE, 0)                                                            \
    F(info_block_size, maximum, 10, 32, SIZE, 0)

#define NBD_REQUEST_FIELDS(F)                                                                                \
    F(request, magic, 0, 32, MAGIC, NBD_REQUEST_MAGIC)                                                       \
    F(request, flags, 4, 16, FLAGS, 0)                                                                       \
    F(request, type, 6, 16, TYPE, 0)                                                                         \
    F(request, cookie, 8, 64, COOKIE, 0)                                                                     \
    F(request, offset, 16, 64, OFFSET, 0)                                                                    \
    F(request, length, 24, 32, LENGTH, 0)

#define NBD_SIMPLE_REPLY_FIELDS(F)                                                                           \
    F(simple_reply, magic, 0, 32, MAGIC, NBD_SIMPLE_REPLY_MAGIC)                                             \
    F(simple_reply, error, 4, 32, ERROR, 0)                                                                  \
    F(simple_reply, cookie, 8, 64, COOKIE, 0)

#define NBD_CHUNK_FIELDS(F)                                                                                  \
    F(chunk, magic, 0, 32, MAGIC, NBD_STRUCTURED_REPLY_MAGIC)                                                \
    F(chunk, flags, 4, 16, FLAGS, 0)                                                                         \
    F(chunk, type, 6, 16, TYPE, 0)                                                                           \
    F(chunk, cookie, 8, 64, COOKIE, 0)                                                                       \
    F(chunk, length, 16, 32, FOLLOW, 0)

#define NBD_CHUNK_DATA_FIELDS(F) F(chunk_data, offset, 0, 64, OFFSET, 0)

#define NBD_CHUNK_HOLE_FIELDS(F)                                                                             \
    F(chunk_hole, offset, 0, 64, OFFSET, 0)                                                                  \
    F(chunk_hole, length, 8, 32, LENGTH, 0)

#define NBD_CHUNK_ERROR_FIELDS(F)                                                                            \
    F(chunk_error, error, 0, 32, ERROR, 0)                                                                   \
    F(chunk_error, message_length, 4, 16, FOLLOW, 0)

#define NBD_CHUNK_STATUS_FIELDS(F) F(chunk_status, context, 0, 32, COOKIE, 0)

#define NBD_EXTENT_FIELDS(F)                                                                                 \
    F(extent, length, 0, 32, LENGTH, 0)                                                                      \
    F(extent, flags, 4, 32, FLAGS, 0)

/* M(message, FIELDS, bytes, sent by the client) */
#define NBD_MESSAGES(M)                                                                                      \
    M(greeting, NBD_GREETING_FIELDS, 18, false)                                                              \
    M(client_flags, NBD_CLIENT_FLAGS_FIELDS, 4, true)                                                        \
    M(option, NBD_OPTION_FIELDS, 16, true)                                                                   \
    M(option_reply, NBD_OPTION_REPLY_FIELDS, 20, false)                                                      \
    M(export_name_reply, NBD_EXPORT_NAME_REPLY_FIELDS, 10, false)                                            \
    M(info_export, NBD_INFO_EXPORT_FIELDS, 12, false)                                                        \
    M(info_block_size, NBD_INFO_BLOCK_SIZE_FIELDS, 14, false)                                                \
    M(request, NBD_REQUEST_FIELDS, 28, true)                                                                 \
    M(simple_reply, NBD_SIMPLE_REPLY_FIELDS, 16, false)                                                      \
    M(chunk, NBD_CHUNK_FIELDS, 20, false)                                                                    \
    M(chunk_data, NBD_CHUNK_DATA_FIELDS, 8, false)                                                           \
    M(chunk_hole, NBD_CHUNK_HOLE_FIELDS, 12, false)                                                          \
    M(chunk_error, NBD_CHUNK_ERROR_FIELDS, 6, false)                                                         \
    M(chunk_status, NBD_CHUNK_STATUS_FIELDS, 4, false)                                                       \
    M(extent, NBD_EXTENT_FIELDS, 8, false)

#define NBD_MEMBER(msg, field, off, bits, kind, magic) uint##bits##_t field;
#define NBD_GET(msg, field, off, bits, kind, magic)    m.field = get_be##bits((const uint8_t *)wire + (off));
#define NBD_PUT(msg, field, off, bits, kind, magic)    put_be##bits((uint8_t *)wire + (off), m.field);
#define NBD_MESSAGE(msg, FIELDS, bytes, from_client)                                                         \
    enum { NBD_BYTES_##msg = (bytes) };                                                                      \
    struct nbd_##msg {                                                                                       \
        FIELDS(NBD_MEMBER)                                                                                   \
    };                                                                                                       \
    static inline struct nbd_##msg nbd_##msg##_get(const void *wire)                                         \
    {                                                                                                        \
        struct nbd_##msg m;                                                                                  \
        FIELDS(NBD_GET)                                                                                      \
        return m;                                                                                            \
    }                                                                                                        \
    static inline void nbd_##msg##_put(void *wire, struct nbd_##msg m)                                       \
    {                                                                                                        \
        FIELDS(NBD_PUT)                                                                                      \
    }
NBD_MESSAGES(NBD_MESSAGE)

/* ---- the same as tables ---- */

struct nbd_field {
    const char *name;
    uint8_t offset; /* bytes */
    uint8_t bits;
    enum nbd_field_kind kind;
    uint64_t magic; /* the right value of NBD_FIELD_MAGIC */
};

struct nbd_layout {
    const char *name;
    bool from_client;
    unsigned bytes;
    unsigned nfields;
    const struct nbd_field *fields;
};

extern const struct nbd_layout nbd_layouts[]; /* ends with a NULL name */
const struct nbd_layout *nbd_layout_find(const char *name);
uint64_t nbd_field_get(const struct nbd_field *f, const void *wire);
void nbd_field_put(const struct nbd_field *f, void *wire, uint64_t value);

/* ---- variable parts of options ---- */

struct nbd_string { /* not terminated; points into the option's data */
    const char *data;
    uint32_t len;
};

/* Data of NBD_OPT_INFO and NBD_OPT_GO. */
struct nbd_info_query {
    struct nbd_string name;
    uint16_t count;
    const uint8_t *types; /* @count 16-bit numbers */
};
/* -EINVAL if the lengths in it do not add up to @len exactly, or the name is longer than allowed. */
int nbd_info_query_parse(const void *data, uint32_t len, struct nbd_info_query *ret_query);
/* True if the client asked for this information type. */
bool nbd_info_query_has(const struct nbd_info_query *q, uint16_t type);

/* Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
struct nbd_meta_query {
    struct nbd_string name;
    uint32_t count;
    const uint8_t *next; /* first query not yet taken */
    uint32_t left;       /* bytes behind it */
};
/* Checks the whole of @data: every query lies in it. -EINVAL otherwise. */
int nbd_meta_query_parse(const void *data, uint32_t len, struct nbd_meta_query *ret_query);
/* Take the next query; false at the end. */
bool nbd_meta_query_next(struct nbd_meta_query *q, struct nbd_string *ret_text);

/* True if @s is @text. */
bool nbd_string_is(struct nbd_string s, const char *text);

/* A negative errno (or 0) as an NBD error value. */
uint32_t nbd_error_from_errno(int code);

/* "NBD_OPT_GO", "NBD_CMD_READ"; "unknown" for others. */
const char *nbd_opt_name(uint32_t option);
const char *nbd_cmd_name(uint16_t cmd);

#endif
