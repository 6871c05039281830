/* One run: what its clients ask for, and what they share. */
#ifndef RUN_H
#define RUN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "tally.h"
#include "wire.h"

enum operation { PUT, GET, RANGE, HEAD_OBJECT, LIST, DELETE, COPY };

struct plan {
    enum operation operation;
    const char *bucket, *prefix, *copy_from, *key_id, *secret, *region;
    uint64_t size_bytes, range_bytes;
    uint64_t first, keys;   /* object numbers: `keys` of them from `first` on, over and over */
    uint64_t requests;      /* at most so many; 0: until the time is over */
    int64_t warm_ns, run_ns; /* 0: until the requests are done */
    int64_t stall_ns;       /* a connection on which nothing moves for so long has failed */
    int listed, clients, threads, signs_body, verify_every;
};

struct run {
    struct plan plan;
    struct target target;
    char (*digests)[65]; /* of the bodies that PUTs sign */
    _Atomic uint64_t turns;
    int64_t stop_at_ns; /* 0: no time is set */
    _Atomic int64_t taken_at_ns; /* when the last of `requests` had been taken; 0: not yet */
    /* How many threads are at it; the last one to end says so. */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    int threads_left;
};

struct client;

struct worker {
    struct run *run;
    struct client *clients;
    int count, epoll, alive;
    struct tally tally;
    pthread_t thread;
};

/* Opens the connections of `count` clients. NULL, or why one could not be opened. */
const char *worker_setup(struct worker *worker, struct run *run, int count);

/* A thread's work: requests, until the time is over or there are no more to begin. */
void *worker_run(void *worker);

#endif
