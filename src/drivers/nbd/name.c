/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of NBD servers as users write them: QEMU's older form nbd:unix:PATH and nbd:HOST:PORT, each with
 * :exportname=NAME behind it, and the URIs of the NBD URI specification. Both become the options
 * server.* and export.
 */
#include <stdio.h>

#include "drivers/nbd/nbd.h"

#define URI_FORMS "nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH"

const char *const nbd_prefixes[] = {
    "nbd:", "nbd+tcp:", "nbd+unix:", "nbds:", "nbds+tcp:", "nbds+unix:", NULL};

/* ---- small helpers ---- */

static int put(json_t *object, const char *key, const char *value, struct err *err)
{
    if (json_object_set_new(object, key, json_string(value)) < 0) {
        /* jansson also refuses what is not UTF-8 */
        return err_set(err, -EINVAL, "NBD name: the %s is not valid text (UTF-8)", key);
    }
    return 0;
}

static int put_server(json_t *options, const char *type, const char *key1, const char *value1,
                      const char *key2, const char *value2, struct err *err)
{
    json_t *server = json_object();

    if (!server || json_object_set_new(options, "server", server) < 0) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    int r = put(server, "type", type, err);
    if (r == 0) {
        r = put(server, key1, value1, err);
    }
    return r == 0 && key2 ? put(server, key2, value2, err) : r;
}

/* Split "HOST[:PORT]" or "[V6ADDRESS][:PORT]" in place; *ret_port is NULL if there is none. */
static int split_host(char *text, char **ret_host, char **ret_port)
{
    char *host = text, *end;

    if (*text == '[') {
        host++;
        end = strchr(host, ']');
        if (!end) {
            return -EINVAL;
        }
        *end++ = '\0';
    } else {
        end = text + strcspn(text, ":");
    }
    if (*end != '\0' && *end != ':') {
        return -EINVAL;
    }
    *ret_port = *end == ':' ? end + 1 : NULL;
    *end = '\0';
    *ret_host = host;
    if (*host == '\0' || (*ret_port && (**ret_port == '\0' || strpbrk(*ret_port, ":]/")))) {
        return -EINVAL;
    }
    return 0;
}

/* ---- nbd:unix:PATH, nbd:HOST:PORT ---- */

static int parse_old(const char *name, json_t *options, struct err *err)
{
    static const char export_key[] = ":exportname=";
    AUTO_FREE char *text = strdup(name + strlen("nbd:"));
    char *host, *port;
    int r = 0;

    if (!text) {
        return err_set(err, -ENOMEM, "no memory for options");
    }
    char *export = strstr(text, export_key);
    if (export) {
        *export = '\0';
        export += strlen(export_key);
        if (*export == '\0') {
            return err_set(err, -EINVAL, "NBD name '%s': the export name is empty", name);
        }
        r = put(options, "export", export, err);
    }
    if (r < 0) {
        return r;
    }
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] == '\0') {
            return err_set(err, -EINVAL, "NBD name '%s': the socket path is empty", name);
        }
        return put_server(options, "unix", "path", text + 5, NULL, NULL, err);
    }
    if (split_host(text, &host, &port) < 0 || !port) {
        return err_set(
            err, -EINVAL,
            "NBD name '%s': expected nbd:unix:PATH or nbd:HOST:PORT, then perhaps :exportname=NAME, "
            "or " URI_FORMS,
            name);
    }
    return put_server(options, "inet", "host", host, "port", port, err);
}

/* ---- URIs ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent-decoding in place (RFC 3986, 2.1). -EINVAL also for %00. */
static int decode(char *s)
{
    char *out = s;

    for (; *s; s++) {
        char c = *s;
        if (c == '%') {
            int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
            if (low < 0 || (high == 0 && low == 0)) {
                return -EINVAL;
            }
            c = (char)(high * 16 + low);
            s += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return 0;
}

struct uri { /* pointers into a copy of the text, decoded; NULL: not there */
    bool tls, unix_socket;
    char *user, *host, *port, *export, *socket;
};

/* The part behind "?": key=value pairs between "&" (or ";"). */
static int parse_query(char *query, struct uri *u, json_t *options, struct err *err)
{
    static const char *const tls_keys[] = {"tls-certificates", "tls-psk-file", "tls-verify-peer"};
    char *save = NULL;

    for (char *pair = strtok_r(query, "&;", &save); pair; pair = strtok_r(NULL, "&;", &save)) {
        char *value = strchr(pair, '=');
        if (!value) {
            return err_set(err, -EINVAL, "NBD URI: '%s' has no value", pair);
        }
        *value++ = '\0';
        if (decode(pair) < 0 || decode(value) < 0) {
            return err_set(
                err, -EINVAL,
                "NBD URI: a %% is not followed by two hexadecimal digits that stand for a byte other than 0");
        }
        bool known = false;
        if (strcmp(pair, "socket") == 0) {
            u->socket = value;
            known = true;
        }
        for (size_t i = 0; !known && i < ARRAY_SIZE(tls_keys); i++) {
            if (strcmp(pair, tls_keys[i]) == 0) {
                int r = put(options, pair, value, err);
                if (r < 0) {
                    return r;
                }
                known = true;
            }
        }
        if (!known) {
            return err_set(
                err, -EINVAL,
                "NBD URI: unknown parameter '%s': expected socket, tls-certificates, tls-psk-file or "
                "tls-verify-peer",
                pair);
        }
    }
    return 0;
}

/* Cut @text, which is "[USER@][HOST[:PORT]][/EXPORT][?QUERY]", into pieces. */
static int split_uri(const char *name, char *text, struct uri *u, json_t *options, struct err *err)
{
    char *query = strchr(text, '?');
    if (query) {
        *query++ = '\0';
    }
    char *path = strchr(text, '/');
    if (path) {
        *path++ = '\0';
    }
    u->export = path;
    char *at = strrchr(text, '@');
    if (at) {
        *at = '\0';
        u->user = text;
        text = at + 1;
    }
    if (*text && split_host(text, &u->host, &u->port) < 0) {
        return err_set(err, -EINVAL, "NBD URI '%s': expected " URI_FORMS, name);
    }
    if ((u->user && decode(u->user) < 0) || (u->host && decode(u->host) < 0) || (path && decode(path) < 0)) {
        return err_set(
            err, -EINVAL,
            "NBD URI '%s': a %% is not followed by two hexadecimal digits that stand for a byte other than 0",
            name);
    }
    return query ? parse_query(query, u, options, err) : 0;
}

static int check_uri(const char *name, const struct uri *u, struct err *err)
{
    if (u->unix_socket && (!u->socket || u->socket[0] == '\0')) {
        return err_set(err, -EINVAL, "NBD URI '%s': the parameter socket=PATH is missing", name);
    }
    if (u->unix_socket && u->host) {
        return err_set(err, -EINVAL, "NBD URI '%s': a unix socket has no host: expected nbd+unix:///", name);
    }
    if (!u->unix_socket && u->socket) {
        return err_set(err, -EINVAL, "NBD URI '%s': socket=PATH needs the scheme nbd+unix or nbds+unix",
                       name);
    }
    if (!u->unix_socket && !u->host) {
        return err_set(err, -EINVAL, "NBD URI '%s': the host is missing", name);
    }
    return 0;
}

static int parse_uri(const char *name, json_t *options, struct err *err)
{
    size_t scheme = strcspn(name, ":");
    struct uri u = {.tls = strncmp(name, "nbds", 4) == 0, .unix_socket = memmem(name, scheme, "+unix", 5)};
    AUTO_FREE char *text = strdup(name + scheme + strlen("://"));

    int r = text ? split_uri(name, text, &u, options, err) : err_set(err, -ENOMEM, "no memory for options");
    if (r == 0) {
        r = check_uri(name, &u, err);
    }
    if (r == 0 && u.export && *u.export) {
        r = put(options, "export", u.export, err);
    }
    if (r == 0 && u.tls) {
        r = put(options, "tls", "require", err);
    }
    if (r == 0 && u.user) {
        r = put(options, "tls-username", u.user, err);
    }
    if (r < 0) {
        return r;
    }
    if (u.unix_socket) {
        return put_server(options, "unix", "path", u.socket, NULL, NULL, err);
    }
    return put_server(options, "inet", "host", u.host, "port", u.port ? u.port : "10809", err);
}

int nbd_parse_name(const char *name, json_t *options, struct err *err)
{
    size_t scheme = strcspn(name, ":");

    if (strncmp(name + scheme, "://", 3) == 0) {
        return parse_uri(name, options, err);
    }
    if (strncmp(name, "nbd:", 4) == 0) {
        return parse_old(name, options, err);
    }
    return err_set(err, -EINVAL, "NBD URI '%s': expected %.*s://", name, (int)scheme, name);
}

/* ---- back to a name ---- */

/* Append @text to @out, percent-encoded where RFC 3986 wants it in a path or a query. */
static void encode(FILE *out, const char *text)
{
    for (; *text; text++) {
        bool plain = (*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') ||
                     (*text >= 'a' && *text <= 'z') || strchr("-._~/", *text);
        fprintf(out, plain ? "%c" : "%%%02X", (unsigned char)*text);
    }
}

char *nbd_make_name(const struct node *n)
{
    const struct nbd *c = n->state;
    const char *export = c->opt.export ? c->opt.export : "";
    char *name = NULL;
    size_t size;

    if (c->opt.tls != CLIENT_TLS_OFF) {
        return NULL; /* the certificates would be lost */
    }
    FILE *out = open_memstream(&name, &size);
    if (!out) {
        return NULL;
    }
    if (c->path) {
        fprintf(out, "nbd+unix://%s", *export ? "/" : "");
        encode(out, export);
        fprintf(out, "?socket=");
        encode(out, c->path);
    } else {
        fprintf(out, strchr(c->host, ':') ? "nbd://[%s]:%s" : "nbd://%s:%s", c->host, c->port);
        fprintf(out, "%s", *export ? "/" : "");
        encode(out, export);
    }
    if (fclose(out) != 0) {
        free(name);
        return NULL;
    }
    return name;
}
