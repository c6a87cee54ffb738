/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See stream.h. A scanner knows just enough of JSON's tokens to find where a message ends, and to rewrite
 * it as strict JSON on the way; jansson does the rest.
 */
#include "qmp/stream.h"

#include <stdio.h>

#define STRAY_MAX 100u       /* bytes of wrong input that are repeated to its sender */
#define KEEP_MAX  (64 * KiB) /* a larger buffer is given back after the message */

enum state {
    START,
    STRING,
    ESCAPE,
    WORD,
    MINUS, /* the number states are named after what was seen last */
    ZERO,
    DIGITS,
    DOT,
    FRACTION,
    EXPONENT,
    SIGN,
    EXPONENT_DIGITS,
    RECOVER, /* after a stray character */
    SKIP,    /* after a limit was exceeded: to the end of the line */
};

enum step {
    STEP_MORE,   /* the byte is used */
    STEP_TOKEN,  /* it is, and ends a token */
    STEP_BEFORE, /* a token ended before it */
    STEP_AGAIN,  /* look at it again in the new state */
    STEP_STRAY,
};

void qmp_stream_init(struct qmp_stream *s)
{
    *s = (struct qmp_stream){.state = START};
}

void qmp_stream_finish(struct qmp_stream *s)
{
    free(s->text);
    qmp_stream_init(s);
}

static void begin_anew(struct qmp_stream *s, enum state state)
{
    if (s->max > KEEP_MAX) {
        free(TAKE_PTR(s->text));
        s->max = 0;
    }
    s->len = s->token = s->tokens = 0;
    s->braces = s->brackets = 0;
    s->wrong[0] = '\0';
    s->state = state;
}

/* Room for a few more bytes than one step adds. */
static int make_room(struct qmp_stream *s)
{
    if (s->max - s->len >= 8) {
        return 0;
    }
    size_t max = s->max ? 2 * s->max : 512;
    char *grown = realloc(s->text, max);
    if (!grown) {
        return -ENOMEM;
    }
    s->text = grown;
    s->max = max;
    return 0;
}

static void put(struct qmp_stream *s, char c)
{
    s->text[s->len++] = c;
}

/* ---- one byte ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20;
}

static bool is_impossible(char c)
{
    return (unsigned char)c >= 0xfe;
}

static bool is_structural(char c)
{
    return c != '\0' && strchr("{}[]:,", c) != NULL;
}

/* START: the number ends before @c; RECOVER: this is none. */
static enum state number_next(enum state state, char c)
{
    bool exponent = c == 'e' || c == 'E';

    switch (state) {
    case MINUS:
        return c == '0' ? ZERO : is_digit(c) ? DIGITS : RECOVER;
    case ZERO:
        return c == '.' ? DOT : exponent ? EXPONENT : is_digit(c) ? RECOVER : START;
    case DIGITS:
        return is_digit(c) ? DIGITS : c == '.' ? DOT : exponent ? EXPONENT : START;
    case DOT:
        return is_digit(c) ? FRACTION : RECOVER;
    case FRACTION:
        return is_digit(c) ? FRACTION : exponent ? EXPONENT : START;
    case EXPONENT:
        return c == '+' || c == '-' ? SIGN : is_digit(c) ? EXPONENT_DIGITS : RECOVER;
    case SIGN:
        return is_digit(c) ? EXPONENT_DIGITS : RECOVER;
    default:
        return is_digit(c) ? EXPONENT_DIGITS : START;
    }
}

/* An integer that jansson would refuse becomes a real number, as in QEMU. */
static void end_number(struct qmp_stream *s, enum state state)
{
    put(s, '\0');
    s->len--;
    errno = 0;
    strtoll(s->text + s->token, NULL, 10);
    if ((state == ZERO || state == DIGITS) && errno == ERANGE) {
        put(s, '.');
        put(s, '0');
    }
    put(s, ' '); /* what was between it and the next token is not kept */
}

static enum step step_number(struct qmp_stream *s, char c)
{
    enum state before = s->state;

    s->state = number_next(before, c);
    if (s->state == START) {
        end_number(s, before);
        return STEP_BEFORE;
    }
    put(s, c);
    return s->state == RECOVER ? STEP_STRAY : STEP_MORE;
}

static enum step step_word(struct qmp_stream *s, char c)
{
    if (is_word(c)) {
        put(s, c);
        return STEP_MORE;
    }
    const char *word = s->text + s->token;
    int n = (int)(s->len - s->token);
    bool good = (n == 4 && (memcmp(word, "true", 4) == 0 || memcmp(word, "null", 4) == 0)) ||
                (n == 5 && memcmp(word, "false", 5) == 0);
    if (!good && !s->wrong[0]) {
        snprintf(s->wrong, sizeof(s->wrong), "%.*s", n, word);
    }
    put(s, ' ');
    s->state = START;
    return STEP_BEFORE;
}

/* Single quotes become double ones, and what stands in them is escaped accordingly. */
static enum step step_string(struct qmp_stream *s, char c)
{
    if (s->state == ESCAPE && !is_control(c) && !is_impossible(c)) {
        if (c == '\'') {
            s->len--; /* \' is a quote, and needs no escape */
        }
        put(s, c);
        s->state = STRING;
        return STEP_MORE;
    }
    if (is_control(c) || is_impossible(c)) {
        put(s, c);
        return STEP_STRAY;
    }
    if (c == s->quote) {
        put(s, '"');
        s->state = START;
        return STEP_TOKEN;
    }
    if (c == '"') {
        put(s, '\\');
    }
    s->state = c == '\\' ? ESCAPE : STRING;
    put(s, c);
    return STEP_MORE;
}

static enum step step_start(struct qmp_stream *s, char c)
{
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        return STEP_MORE;
    }
    s->token = s->len;
    put(s, c == '\'' ? '"' : c);
    if (is_structural(c)) {
        s->braces += (c == '{') - (c == '}');
        s->brackets += (c == '[') - (c == ']');
        return STEP_TOKEN;
    }
    if (c == '"' || c == '\'') {
        s->quote = c;
        s->state = STRING;
        return STEP_MORE;
    }
    if (!is_word(c) && !is_digit(c) && c != '-') {
        return STEP_STRAY;
    }
    s->state = is_word(c) ? WORD : c == '-' ? MINUS : c == '0' ? ZERO : DIGITS;
    return STEP_MORE;
}

static enum step take_byte(struct qmp_stream *s, char c)
{
    switch ((enum state)s->state) {
    case START:
        return step_start(s, c);
    case STRING:
    case ESCAPE:
        return step_string(s, c);
    case WORD:
        return step_word(s, c);
    case RECOVER:
        if (is_structural(c) || (is_control(c) && c != '\t') || is_impossible(c)) {
            s->state = START;
            return STEP_AGAIN;
        }
        return STEP_MORE;
    case SKIP:
        if ((is_control(c) && c != '\t') || is_impossible(c)) {
            s->state = START;
        }
        return STEP_MORE;
    default:
        return step_number(s, c);
    }
}

/* ---- one message ---- */

char *qmp_clean(const char *text, size_t len)
{
    static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD */
    char *out = malloc(3 * len + 1), *end = out;

    for (size_t i = 0; out && i < len;) {
        size_t n = 1, most = MIN(len - i, (size_t)4);
        json_t *good = NULL;
        while (n <= most && !(good = json_stringn(text + i, n))) {
            n++;
        }
        if (good) {
            memcpy(end, text + i, n);
            end += n;
            i += n;
            json_decref(good);
        } else {
            memcpy(end, unknown, 3);
            end += 3;
            i++;
        }
    }
    if (out) {
        *end = '\0';
    }
    return out;
}

static int stray(struct qmp_stream *s, struct err *err)
{
    size_t len = s->len - s->token;
    AUTO_FREE char *token = qmp_clean(s->text + s->token, MIN(len, (size_t)STRAY_MAX));

    begin_anew(s, RECOVER);
    return err_set(err, -EINVAL, "JSON parse error, stray '%s'", token ? token : "?");
}

static const char *exceeded(const struct qmp_stream *s)
{
    return s->len > QMP_MESSAGE_MAX                    ? "JSON token size limit exceeded"
           : s->tokens > QMP_TOKENS_MAX                ? "JSON token count limit exceeded"
           : s->braces + s->brackets > QMP_NESTING_MAX ? "JSON nesting depth limit exceeded"
                                                       : NULL;
}

static bool is_whole(const struct qmp_stream *s)
{
    return s->braces < 0 || s->brackets < 0 || (s->braces == 0 && s->brackets == 0);
}

static int parse(struct qmp_stream *s, json_t **ret_message, struct err *err)
{
    json_error_t e;
    int r = 1;

    if (s->wrong[0]) {
        r = err_set(err, -EINVAL, "JSON parse error, invalid keyword '%s'", s->wrong);
    } else {
        json_t *message = json_loadb(s->text, s->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
        if (message) {
            *ret_message = message;
        } else {
            AUTO_FREE char *text = qmp_clean(e.text, strlen(e.text));
            r = json_error_code(&e) == json_error_out_of_memory
                    ? -ENOMEM
                    : err_set(err, -EINVAL, "JSON parse error, %s", text ? text : "?");
        }
    }
    begin_anew(s, START);
    return r;
}

int qmp_stream_next(struct qmp_stream *s, const char *p, size_t n, size_t *used, json_t **ret_message,
                    struct err *err)
{
    while (*used < n) {
        if (make_room(s) < 0) {
            begin_anew(s, SKIP);
            return err_set(err, -ENOMEM, "no memory for a message");
        }
        enum step step = take_byte(s, p[*used]);
        *used += step != STEP_BEFORE && step != STEP_AGAIN;
        if (step == STEP_STRAY) {
            return stray(s, err);
        }
        s->tokens += step == STEP_TOKEN || step == STEP_BEFORE;
        const char *why = exceeded(s);
        if (why) {
            begin_anew(s, SKIP);
            return err_set(err, -EINVAL, "%s", why);
        }
        if ((step == STEP_TOKEN || step == STEP_BEFORE) && is_whole(s)) {
            return parse(s, ret_message, err);
        }
    }
    return 0;
}
