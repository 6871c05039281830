/* A network path between two network namespaces: what netem does, where the kernel has none.
 *
 *     path NAMESPACE NAMESPACE
 *
 * It makes a TUN device "path0" in each, prints "ready", and carries IP packets between them. Each
 * line of its input sets how, for both directions alike, and is answered by the counts until then:
 *
 *     BYTES_PER_S QUEUE_BYTES DELAY_US LOSS REORDERED HELD_US
 *     -> FORWARDED LOST DROPPED            (dropped: did not fit into the queue)
 *
 * LOSS and REORDERED are shares, 0 to 1; a reordered packet is held back by HELD_US. The queue is
 * that of a link of so many bytes a second, and drops its tail. DELAY_US is one way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKET = 2048, RING = 1 << 15, BURST = 64 };

struct packet {
    int64_t leaves_ns;
    uint32_t bytes;
    uint8_t data[PACKET];
};

/* Packets on their way, by the time at which they leave; `held` for those that others overtake. */
struct ring {
    struct packet *at;
    uint64_t head, tail;
};

struct direction {
    struct ring usual, held;
    int64_t free_ns; /* when the link has sent what it was given */
    uint64_t forwarded, lost, dropped;
};

static struct {
    double bytes_per_ns, queue_bytes, loss, reordered;
    int64_t delay_ns, held_ns;
} way = {1e9, 1e12, 0, 0, 0, 0};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int device(const char *space) {
    char path[256];
    struct ifreq wanted = {0};
    snprintf(path, sizeof path, "/run/netns/%s", space);
    int entered = open(path, O_RDONLY);
    if (entered < 0 || setns(entered, CLONE_NEWNET)) fail(path);
    close(entered);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0) fail("/dev/net/tun");
    wanted.ifr_flags = IFF_TUN | IFF_NO_PI;
    strcpy(wanted.ifr_name, "path0");
    if (ioctl(fd, TUNSETIFF, &wanted)) fail("TUNSETIFF");
    return fd;
}

static void make_ring(struct ring *ring) {
    ring->at = malloc(RING * sizeof *ring->at);
    if (ring->at == NULL) fail("malloc");
}

/* Takes up to BURST packets that came in; 1 if there may be more. */
static int take(int fd, struct direction *to) {
    for (int i = 0; i < BURST; i++) {
        int64_t now = now_ns();
        int reordered = drand48() < way.reordered;
        struct ring *ring = reordered ? &to->held : &to->usual;
        struct packet *packet = &ring->at[ring->tail % RING];
        if (ring->tail - ring->head == RING) fail("too many packets under way");
        ssize_t bytes = read(fd, packet->data, PACKET);
        if (bytes <= 0) return 0;
        if (drand48() < way.loss) {
            to->lost++;
            continue;
        }
        double backlog = to->free_ns > now ? (double)(to->free_ns - now) * way.bytes_per_ns : 0;
        if (backlog + (double)bytes > way.queue_bytes) {
            to->dropped++;
            continue;
        }
        if (to->free_ns < now) to->free_ns = now;
        to->free_ns += (int64_t)((double)bytes / way.bytes_per_ns);
        packet->leaves_ns = to->free_ns + way.delay_ns + (reordered ? way.held_ns : 0);
        packet->bytes = (uint32_t)bytes;
        ring->tail++;
    }
    return 1;
}

static int64_t first_ns(const struct ring *ring) {
    return ring->head == ring->tail ? INT64_MAX : ring->at[ring->head % RING].leaves_ns;
}

/* Sends what is due; returns when the next is. */
static int64_t give(int fd, struct direction *to) {
    for (;;) {
        struct ring *ring = first_ns(&to->held) < first_ns(&to->usual) ? &to->held : &to->usual;
        int64_t first = first_ns(ring);
        if (first > now_ns()) return first;
        struct packet *packet = &ring->at[ring->head++ % RING];
        if (write(fd, packet->data, packet->bytes) < 0 && errno != EIO && errno != ENOBUFS)
            fail("write");
        to->forwarded++;
    }
}

static void set(struct direction *ways) {
    char line[256];
    double rate, queue, delay, loss, reordered, held;
    if (fgets(line, sizeof line, stdin) == NULL) exit(0);
    if (sscanf(line, "%lf %lf %lf %lf %lf %lf", &rate, &queue, &delay, &loss, &reordered, &held) !=
        6)
        exit(2);
    way.bytes_per_ns = rate / 1e9;
    way.queue_bytes = queue;
    way.delay_ns = (int64_t)(delay * 1e3);
    way.loss = loss;
    way.reordered = reordered;
    way.held_ns = (int64_t)(held * 1e3);
    uint64_t counts[3] = {0};
    for (int i = 0; i < 2; i++) {
        counts[0] += ways[i].forwarded;
        counts[1] += ways[i].lost;
        counts[2] += ways[i].dropped;
        ways[i].forwarded = ways[i].lost = ways[i].dropped = 0;
    }
    printf("%lu %lu %lu\n", counts[0], counts[1], counts[2]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); /* waits end within a microsecond or so */
    struct sched_param first = {1}; /* a network does not wait until the hosts leave it a core */
    if (sched_setscheduler(0, SCHED_FIFO, &first)) fail("sched_setscheduler");
    struct direction ways[2] = {0};
    struct pollfd ends[3] = {{device(argv[1]), POLLIN, 0}, {device(argv[2]), POLLIN, 0},
                             {STDIN_FILENO, POLLIN, 0}};
    for (int i = 0; i < 2; i++) {
        make_ring(&ways[i].usual);
        make_ring(&ways[i].held);
    }
    srand48(1);
    setvbuf(stdin, NULL, _IONBF, 0); /* poll must see the next line */
    puts("ready");
    fflush(stdout);
    for (;;) {
        int more = 0;
        int64_t next = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            more |= take(ends[i].fd, &ways[i]);
            int64_t due = give(ends[!i].fd, &ways[i]);
            if (due < next) next = due;
        }
        int64_t wait = next == INT64_MAX ? 1000000000 : next - now_ns();
        if (more || wait < 0) wait = 0;
        struct timespec time = {wait / 1000000000, wait % 1000000000};
        if (ppoll(ends, 3, &time, NULL) < 0 && errno != EINTR) fail("ppoll");
        if (ends[2].revents) set(ways);
    }
}
