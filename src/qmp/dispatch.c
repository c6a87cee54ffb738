/* SPDX-License-Identifier: BSD-2-Clause */
/* A message to a command, and its result to a reply: the order of checks and their words are QEMU's. */
#include "qmp/internal.h"

#include <stdarg.h>

#include "base/json.h"

/* ---- what commands use ---- */

json_t *qmp_fail(struct qmp_call *call, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    call->err.code = code;
    vsnprintf(call->err.text, sizeof(call->err.text), fmt, ap);
    va_end(ap);
    return NULL;
}

json_t *qmp_fail_class(struct qmp_call *call, const char *error_class, const char *fmt, ...)
{
    va_list ap;

    call->error_class = error_class;
    va_start(ap, fmt);
    call->err.code = -EINVAL;
    vsnprintf(call->err.text, sizeof(call->err.text), fmt, ap);
    va_end(ap);
    return NULL;
}

json_t *qmp_arg(const struct qmp_call *call, const char *name)
{
    return json_object_get(call->args, name);
}

const char *qmp_arg_str(const struct qmp_call *call, const char *name)
{
    return json_string_value(qmp_arg(call, name));
}

bool qmp_arg_bool(const struct qmp_call *call, const char *name, bool def)
{
    const json_t *v = qmp_arg(call, name);

    return v ? json_is_true(v) || json_integer_value(v) != 0 : def;
}

json_int_t qmp_arg_int(const struct qmp_call *call, const char *name, json_int_t def)
{
    const json_t *v = qmp_arg(call, name);

    return v ? json_integer_value(v) : def;
}

/* ---- replies ---- */

json_t *qmp_error_reply(const char *error_class, const char *text)
{
    AUTO_FREE char *clean = qmp_clean(text, strlen(text)); /* file names may be anything */

    return json_pack("{s:{s:s, s:s}}", "error", "class", error_class ? error_class : "GenericError", "desc",
                     clean ? clean : "no memory");
}

static json_t *generic_error(const struct err *err)
{
    return qmp_error_reply(NULL, err->text);
}

/* ---- messages ---- */

struct message {
    const char *name;
    bool oob;
    json_t *args; /* borrowed; or NULL */
};

static int member_unexpected(const char *key, struct err *err)
{
    return err_set(err, -EINVAL, "QMP input member '%.100s' is unexpected", key);
}

static int take_name(struct message *m, const char *key, const json_t *v, struct err *err)
{
    if (!json_is_string(v)) {
        return err_set(err, -EINVAL, "QMP input member '%s' must be a string", key);
    }
    if (m->name) {
        return err_set(err, -EINVAL, "QMP input member '%s' clashes with '%s'", "execute", "exec-oob");
    }
    m->name = json_string_value(v);
    m->oob = strcmp(key, "exec-oob") == 0;
    return 0;
}

static int take_message(const struct qmp_conn *c, json_t *message, struct message *ret, struct err *err)
{
    const char *key;
    json_t *v;
    int r = 0;

    if (!json_is_object(message)) {
        return err_set(err, -EINVAL, "QMP input must be a JSON object");
    }
    json_object_foreach(message, key, v)
    {
        if (strcmp(key, "execute") == 0 || (c->oob && strcmp(key, "exec-oob") == 0)) {
            r = take_name(ret, key, v, err);
        } else if (strcmp(key, "arguments") == 0) {
            r = json_is_object(v) ? 0
                                  : err_set(err, -EINVAL, "QMP input member 'arguments' must be an object");
            ret->args = v;
        } else if (strcmp(key, "id") != 0) {
            r = member_unexpected(key, err);
        }
        if (r < 0) {
            return r;
        }
    }
    return ret->name ? 0 : err_set(err, -EINVAL, "QMP input lacks member 'execute'");
}

bool qmp_is_oob(const struct qmp_conn *c, const json_t *message)
{
    const char *name = c->oob ? json_string_value(json_object_get(message, "exec-oob")) : NULL;
    const struct qmp_command *cmd = name ? qmp_command_find(name) : NULL;

    return cmd && (cmd->flags & QMP_OOB) && !json_object_get(message, "execute");
}

/* ---- commands ---- */

static json_t *not_found(const char *fmt, const char *name)
{
    struct err err;

    err_set(&err, -ENOENT, fmt, name);
    return qmp_error_reply("CommandNotFound", err.text);
}

/* NULL: it may be run. */
static json_t *refuse(const struct qmp_conn *c, const struct message *m, const struct qmp_command *cmd)
{
    bool negotiates = strcmp(m->name, "qmp_capabilities") == 0;
    struct err err;

    if (!c->negotiated && !negotiates) {
        return not_found("Expecting capabilities negotiation with '%s'", "qmp_capabilities");
    }
    if (!cmd) {
        return not_found("The command %.200s has not been found", m->name);
    }
    if (m->oob && !(cmd->flags & QMP_OOB)) {
        err_set(&err, -EINVAL, "The command %s does not support OOB", m->name);
        return generic_error(&err);
    }
    if (c->negotiated && negotiates) {
        return not_found("%s", "Capabilities negotiation is already complete, command ignored");
    }
    return NULL;
}

static co_fn json_t *run(struct qmp_conn *c, const struct message *m, const struct qmp_command *cmd)
{
    AUTO_JSON json_t *args = m->args ? json_incref(m->args) : json_object();
    struct qmp_call call = {.server = c->server, .conn = c, .args = args};

    if (!args) {
        return NULL;
    }
    if (!(cmd->flags & QMP_TAKES_OPTIONS) && qmp_check(cmd->args, args, "", &call.err) < 0) {
        return generic_error(&call.err);
    }
    if (!m->oob) {
        c->call = &call;
    }
    json_t *result = cmd->run(&call);
    if (!m->oob) {
        c->call = NULL;
    }
    return result ? json_pack("{s:o}", "return", result) : qmp_error_reply(call.error_class, call.err.text);
}

json_t *qmp_dispatch(struct qmp_conn *c, json_t *message)
{
    struct message m = {0};
    struct err err = {0};
    json_t *reply;

    if (take_message(c, message, &m, &err) < 0) {
        reply = generic_error(&err);
    } else {
        const struct qmp_command *cmd = qmp_command_find(m.name);
        reply = refuse(c, &m, cmd);
        reply = reply ? reply : run(c, &m, cmd);
    }
    json_t *id = json_is_object(message) ? json_object_get(message, "id") : NULL;
    if (reply && id) {
        json_object_set(reply, "id", id);
    }
    return reply;
}
