/* A thread that writes to a file and syncs it, one job at a time.
 *
 * The owner fills in a job and posts `begin`; the thread does it, and adds 1 to the eventfd `done`,
 * which an event loop can wait for. Between the two the job belongs to the thread. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd;
    const uint8_t *data;
    size_t size;
    int64_t offset;
    int error;       /* an errno, 0 for none */
    int64_t sync_ns; /* how long fdatasync took */

    int done;  /* the eventfd */
    int begun; /* there is a job, which comes before the end */
    sem_t begin;
    pthread_t thread;
} ps_syncer;

static int64_t ps_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int ps_write(int fd, const uint8_t *data, size_t size, int64_t offset) {
    while (size) {
        ssize_t n = pwrite(fd, data, size, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ENOSPC;
        data += n;
        size -= (size_t)n;
        offset += n;
    }
    return 0;
}

/* struct sched_attr, sched_setattr(2). */
typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} ps_sched;

#define PS_SLICE_NS 100000 /* the least that Linux takes */

/* Asks for short turns, which come soon (Linux 6.12; before, it changes nothing). A sync is a few
 * microseconds of work between two waits for the disk: where all processors are busy, each of them
 * would be waited for as long as others' turns last. It gets no more of the processor by that. */
static void ps_short_turns(void) {
#ifdef SYS_sched_setattr
    ps_sched sched;
    memset(&sched, 0, sizeof sched);
    if (syscall(SYS_sched_getattr, 0, &sched, sizeof sched, 0) || sched.policy)
        return;
    sched.runtime = PS_SLICE_NS;
    syscall(SYS_sched_setattr, 0, &sched, 0);
#endif
}

static void *ps_main(void *argument) {
    ps_syncer *s = argument;
    const uint64_t one = 1;
    ps_short_turns();
    for (;;) {
        while (sem_wait(&s->begin) && errno == EINTR)
            ;
        if (!s->begun)
            return NULL;
        s->error = ps_write(s->fd, s->data, s->size, s->offset);
        if (!s->error) {
            int64_t begun = ps_now_ns();
            s->error = fdatasync(s->fd) ? errno : 0;
            s->sync_ns = ps_now_ns() - begun;
        }
        s->begun = 0;
        while (write(s->done, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
}

/* An errno, 0 for none. */
static int ps_start(ps_syncer *s) {
    int error;
    s->done = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->done < 0)
        return errno;
    sem_init(&s->begin, 0, 0);
    error = pthread_create(&s->thread, NULL, ps_main, s);
    if (error) {
        close(s->done);
        sem_destroy(&s->begin);
    }
    return error;
}

static void ps_begin(ps_syncer *s) {
    s->begun = 1;
    sem_post(&s->begin);
}

/* Waits for the job under way: a post without a job is the end. */
static void ps_stop(ps_syncer *s) {
    sem_post(&s->begin);
    pthread_join(s->thread, NULL);
    close(s->done);
    sem_destroy(&s->begin);
}
