/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS for the NBD server, by GnuTLS on a non-blocking socket. GnuTLS never waits: its pull function
 * takes from a buffer that recv fills, its push function sends what the socket takes, and both say
 * EAGAIN otherwise; whoever called us does the waiting, in a coroutine and outside of GnuTLS.
 */
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>

#include "export/nbd/conn.h"

#define RAW_BYTES    (64 * KiB)  /* received and not yet decrypted: four full records */
#define CORK_BYTES   (256 * KiB) /* encrypted at a time: GnuTLS holds as much in memory of its own */
#define PRIORITY     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"

struct nbd_tls_creds {
    gnutls_certificate_credentials_t certs; /* one of the two, */
    gnutls_psk_server_credentials_t psk;    /* the other NULL */
    bool verify_peer;
};

struct nbd_tls {
    gnutls_session_t session;
    int fd;
    uint8_t *raw;
    size_t raw_head, raw_tail;
    bool raw_end;  /* the client's end of the stream */
    int raw_error; /* -errno of the socket */
    bool open;     /* the handshake succeeded */
    bool pending;  /* GnuTLS holds bytes that the socket did not take */
};

/* ---- credentials ---- */

static int load_file(char **ret_path, const char *dir, const char *name, bool required, struct err *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        return err_set(err, -ENOMEM, "no memory for a file name");
    }
    if (access(path, R_OK) < 0) {
        int code = -errno;
        free(path);
        *ret_path = NULL;
        return required ? err_set_errno(err, code, "TLS certificates: cannot read '%s/%s'", dir, name) : 0;
    }
    *ret_path = path;
    return 0;
}

static int load_certificates(struct nbd_tls_creds *creds, const char *dir, struct err *err)
{
    AUTO_FREE char *ca = NULL, *cert = NULL, *key = NULL, *crl = NULL;
    int rc = load_file(&cert, dir, "server-cert.pem", true, err);

    rc = rc < 0 ? rc : load_file(&key, dir, "server-key.pem", true, err);
    rc = rc < 0 ? rc : load_file(&ca, dir, "ca-cert.pem", creds->verify_peer, err);
    rc = rc < 0 ? rc : load_file(&crl, dir, "ca-crl.pem", false, err);
    if (rc < 0) {
        return rc;
    }
    if (gnutls_certificate_allocate_credentials(&creds->certs) < 0) {
        creds->certs = NULL;
        return err_set(err, -ENOMEM, "no memory for TLS certificates");
    }
    if (ca && (rc = gnutls_certificate_set_x509_trust_file(creds->certs, ca, GNUTLS_X509_FMT_PEM)) < 0) {
        return err_set(err, -EINVAL, "TLS certificates: '%s': %s", ca, gnutls_strerror(rc));
    }
    if (crl && (rc = gnutls_certificate_set_x509_crl_file(creds->certs, crl, GNUTLS_X509_FMT_PEM)) < 0) {
        return err_set(err, -EINVAL, "TLS certificates: '%s': %s", crl, gnutls_strerror(rc));
    }
    rc = gnutls_certificate_set_x509_key_file(creds->certs, cert, key, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        return err_set(err, -EINVAL, "TLS certificates: '%s' with '%s': %s", cert, key, gnutls_strerror(rc));
    }
    return 0;
}

static int load_psk(struct nbd_tls_creds *creds, const char *file, struct err *err)
{
    if (access(file, R_OK) < 0) {
        return err_set_errno(err, -errno, "TLS keys: cannot read '%s'", file);
    }
    if (gnutls_psk_allocate_server_credentials(&creds->psk) < 0) {
        creds->psk = NULL;
        return err_set(err, -ENOMEM, "no memory for TLS keys");
    }
    int rc = gnutls_psk_set_server_credentials_file(creds->psk, file);
    if (rc < 0) {
        return err_set(err, -EINVAL, "TLS keys: '%s': %s", file, gnutls_strerror(rc));
    }
    return 0;
}

int nbd_tls_creds_create(const struct nbd_server_config *config, struct nbd_tls_creds **ret_creds,
                         struct err *err)
{
    struct nbd_tls_creds *creds = calloc(1, sizeof(*creds));

    if (!creds) {
        return err_set(err, -ENOMEM, "no memory for TLS credentials");
    }
    creds->verify_peer = config->tls_verify_peer;
    int rc = config->tls_psk ? load_psk(creds, config->tls_psk, err)
                             : load_certificates(creds, config->tls_certificates, err);
    if (rc < 0) {
        nbd_tls_creds_destroy(creds);
        return rc;
    }
    *ret_creds = creds;
    return 0;
}

void nbd_tls_creds_destroy(struct nbd_tls_creds *creds)
{
    if (!creds) {
        return;
    }
    if (creds->certs) {
        gnutls_certificate_free_credentials(creds->certs);
    }
    if (creds->psk) {
        gnutls_psk_free_server_credentials(creds->psk);
    }
    free(creds);
}

/* ---- what GnuTLS calls ---- */

static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t len)
{
    struct nbd_tls *t = ptr;

    if (t->raw_head == t->raw_tail && !t->raw_end && !t->raw_error) {
        ssize_t n = sock_recv_now(t->fd, t->raw, RAW_BYTES);
        t->raw_head = 0;
        t->raw_tail = n > 0 ? (size_t)n : 0;
        t->raw_end = n == 0;
        t->raw_error = n < 0 && n != -EAGAIN ? (int)n : 0;
    }
    if (t->raw_head == t->raw_tail && !t->raw_end) {
        gnutls_transport_set_errno(t->session, t->raw_error ? -t->raw_error : EAGAIN);
        return -1;
    }
    size_t n = MIN(len, t->raw_tail - t->raw_head);
    memcpy(buf, t->raw + t->raw_head, n);
    t->raw_head += n;
    return (ssize_t)n;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int niov)
{
    struct nbd_tls *t = ptr;
    ssize_t n = sock_send_now(t->fd, iov, niov);

    if (n < 0) {
        gnutls_transport_set_errno(t->session, (int)-n);
        return -1;
    }
    return n;
}

/* ---- sessions ---- */

static int session_create(struct nbd_conn *c, struct nbd_tls *t)
{
    const struct nbd_tls_creds *creds = c->server->creds;

    if (gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
        t->session = NULL;
        return GNUTLS_E_MEMORY_ERROR;
    }
    int rc = gnutls_priority_set_direct(t->session, creds->psk ? PRIORITY_PSK : PRIORITY, NULL);
    if (rc < 0) {
        return rc;
    }
    if (creds->psk) {
        rc = gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, creds->psk);
    } else {
        rc = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, creds->certs);
        if (creds->verify_peer) {
            gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
            gnutls_session_set_verify_cert(t->session, NULL, 0);
        }
    }
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_pull_function(t->session, pull);
    gnutls_transport_set_vec_push_function(t->session, push);
    return rc;
}

static int shake_hands(struct nbd_conn *c, struct nbd_tls *t)
{
    for (;;) {
        int rc = gnutls_handshake(t->session);
        if (rc == GNUTLS_E_SUCCESS) {
            return 0;
        }
        if (rc == GNUTLS_E_AGAIN) {
            int waited = gnutls_record_get_direction(t->session) ? fd_poll(t->fd, POLLOUT, UINT64_MAX)
                                                                 : nbd_tls_wait(t);
            if (waited < 0 || c->dead) {
                return GNUTLS_E_PREMATURE_TERMINATION;
            }
        } else if (rc != GNUTLS_E_INTERRUPTED) {
            return rc; /* a mere warning too: there is no end to what a client can send of them */
        }
    }
}

int nbd_tls_start(struct nbd_conn *c, struct err *err)
{
    struct nbd_tls *t = calloc(1, sizeof(*t));

    if (!t || !(t->raw = buf_get(RAW_BYTES))) {
        free(t);
        return err_set(err, -ENOMEM, "no memory for TLS");
    }
    t->fd = c->fd;
    int rc = session_create(c, t);
    if (rc == 0) {
        rc = shake_hands(c, t);
    }
    if (rc < 0) {
        if (t->session && !t->raw_error) {
            gnutls_alert_send_appropriate(t->session, rc);
        }
        nbd_tls_destroy(t);
        return err_set(err, -ECONNRESET, "TLS handshake with a client failed: %s", gnutls_strerror(rc));
    }
    t->open = true;
    c->tls = t;
    return 0;
}

int nbd_tls_wait(struct nbd_tls *t)
{
    if (t->raw_head < t->raw_tail || t->raw_end || t->raw_error) {
        return 0;
    }
    ssize_t n = sock_recv(t->fd, t->raw, RAW_BYTES);
    if (n < 0) {
        t->raw_error = (int)n;
        return (int)n;
    }
    t->raw_head = 0;
    t->raw_tail = (size_t)n;
    t->raw_end = n == 0;
    return 0;
}

ssize_t nbd_tls_recv_now(struct nbd_tls *t, void *buf, size_t len)
{
    size_t done = 0;

    /* A record is 16 KiB at most: take as many as have arrived. */
    while (done < len) {
        ssize_t n = gnutls_record_recv(t->session, (char *)buf + done, len - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == GNUTLS_E_INTERRUPTED) {
            continue;
        } else if (done > 0) {
            break; /* whatever it is, it comes again */
        } else if (n == GNUTLS_E_AGAIN) {
            return -EAGAIN;
        } else if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) {
            return 0;
        } else {
            return -ECONNRESET; /* rehandshakes and warnings included */
        }
    }
    return (ssize_t)done;
}

static int uncork(struct nbd_tls *t)
{
    int rc;

    do {
        rc = gnutls_record_uncork(t->session, 0);
    } while (rc == GNUTLS_E_INTERRUPTED);
    t->pending = rc == GNUTLS_E_AGAIN;
    return rc >= 0 ? 0 : t->pending ? -EAGAIN : -ECONNRESET;
}

ssize_t nbd_tls_send_now(struct nbd_tls *t, const struct iovec *iov, int niov)
{
    size_t taken = 0;

    if (t->pending) {
        int rc = uncork(t);
        if (rc < 0) {
            return rc;
        }
    }
    gnutls_record_cork(t->session);
    for (int i = 0; i < niov && taken < CORK_BYTES; i++) {
        size_t step = MIN(iov[i].iov_len, CORK_BYTES - taken);
        ssize_t n = step ? gnutls_record_send(t->session, iov[i].iov_base, step) : 0;
        if (n < 0) {
            return -ECONNRESET; /* corked, it only copies: no memory */
        }
        taken += (size_t)n;
        if ((size_t)n < iov[i].iov_len) {
            break;
        }
    }
    int rc = uncork(t);
    return rc < 0 && rc != -EAGAIN ? rc : (ssize_t)taken;
}

bool nbd_tls_pending(const struct nbd_tls *t)
{
    return t->pending;
}

void nbd_tls_destroy(struct nbd_tls *t)
{
    if (!t) {
        return;
    }
    if (t->session) {
        if (t->open && !t->pending && !t->raw_error) {
            gnutls_bye(t->session, GNUTLS_SHUT_WR);
        }
        gnutls_deinit(t->session);
    }
    buf_put(t->raw, RAW_BYTES);
    free(t);
}
