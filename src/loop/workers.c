/* SPDX-License-Identifier: BSD-2-Clause */
/* A small pool of threads for calls that block: made at first use, stopped with the loop. */
#include "loop/engine.h"

#define WORKERS_MAX 16 /* as many blocking calls as a disk profits from; more wait in the queue */

struct job {
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
};

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *head, **tail;
    unsigned queued, idle, threads;
    bool stopping;
    pthread_t thread[WORKERS_MAX];
};

static void *worker(void *arg)
{
    struct workers *w = arg;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->head && !w->stopping) {
            w->idle++;
            pthread_cond_wait(&w->more, &w->lock);
            w->idle--;
        }
        struct job *j = w->head;
        if (!j) {
            break;
        }
        w->head = j->next;
        if (!w->head) {
            w->tail = &w->head;
        }
        w->queued--;
        pthread_mutex_unlock(&w->lock);
        j->fn(j->arg);
        free(j);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static struct workers *workers_new(void)
{
    struct workers *w = calloc(1, sizeof(*w));
    if (w) {
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->more, NULL);
        w->tail = &w->head;
    }
    return w;
}

int workers_submit(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct job *j = malloc(sizeof(*j));

    if (!loop->workers) {
        loop->workers = workers_new();
    }
    struct workers *w = loop->workers;
    if (!j || !w) {
        free(j);
        return -ENOMEM;
    }
    *j = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&w->lock);
    if (w->queued >= w->idle && w->threads < WORKERS_MAX &&
        pthread_create(&w->thread[w->threads], NULL, worker, w) == 0) {
        w->threads++;
    }
    int r = 0;
    if (w->threads == 0) {
        free(j);
        r = -EAGAIN; /* no thread at all: the caller does the work itself */
    } else {
        *w->tail = j;
        w->tail = &j->next;
        w->queued++;
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    return r;
}

void workers_stop(struct loop *loop)
{
    struct workers *w = TAKE_PTR(loop->workers);

    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->threads; i++) {
        pthread_join(w->thread[i], NULL);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->more);
    free(w);
}
