/* Datagrams in batches: recvmmsg with UDP_GRO, sendmsg with UDP_SEGMENT, and without them where
 * the kernel has none. Sockets are non-blocking. */
#ifndef PREDASTORE_UDP_H
#define PREDASTORE_UDP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PU_MESSAGES = 16, PU_BYTES = 65536, PU_CONTROL = 64 };
enum { PU_UDP = 17, PU_SEGMENT = 103, PU_GRO = 104 };

struct pu_receiver {
    struct mmsghdr messages[PU_MESSAGES];
    struct iovec parts[PU_MESSAGES];
    struct sockaddr_storage names[PU_MESSAGES];
    union {
        uint8_t bytes[PU_CONTROL];
        struct cmsghdr align;
    } control[PU_MESSAGES];
    uint8_t *buffers; /* PU_MESSAGES times PU_BYTES */
};

#define PU_LENGTH(r, i) ((size_t)(r)->messages[i].msg_len)
#define PU_NAME(r, i) ((const char *)&(r)->names[i])
#define PU_NAME_BYTES(r, i) ((size_t)(r)->messages[i].msg_hdr.msg_namelen)

/* How many messages came, 0 if none, or -errno. */
static inline int pu_receive(int fd, struct pu_receiver *r) {
    for (int i = 0; i < PU_MESSAGES; i++) {
        struct msghdr *m = &r->messages[i].msg_hdr;
        r->parts[i].iov_base = r->buffers + (size_t)i * PU_BYTES;
        r->parts[i].iov_len = PU_BYTES;
        memset(m, 0, sizeof *m);
        m->msg_iov = &r->parts[i];
        m->msg_iovlen = 1;
        m->msg_name = &r->names[i];
        m->msg_namelen = sizeof r->names[i];
        m->msg_control = r->control[i].bytes;
        m->msg_controllen = PU_CONTROL;
    }
    int n = recvmmsg(fd, r->messages, PU_MESSAGES, MSG_DONTWAIT, NULL);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

/* The size of the datagrams that message `i` was put together from; 0 if it is one. */
static inline size_t pu_segment(struct pu_receiver *r, int i) {
    struct msghdr *m = &r->messages[i].msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == PU_UDP && c->cmsg_type == PU_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 ? (size_t)size : 0;
        }
    }
    return 0;
}

/* Sends `n` bytes as datagrams of `segment` bytes, in one call. 0, or -errno. */
static int pu_send_batch(int fd, const uint8_t *data, size_t n, size_t segment, const void *name,
                         size_t name_bytes) {
    union {
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct iovec part = {(void *)data, n};
    struct msghdr m;
    memset(&m, 0, sizeof m);
    m.msg_name = name_bytes ? (void *)name : NULL;
    m.msg_namelen = (socklen_t)name_bytes;
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    if (n > segment) {
        uint16_t size = (uint16_t)segment;
        memset(&control, 0, sizeof control);
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = PU_UDP;
        c->cmsg_type = PU_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
    }
    return sendmsg(fd, &m, MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Bytes of whole datagrams sent, from the start of `data`; `error` is why it was not all: 0, or an
 * errno. `offload` is cleared when the kernel shows that it has no segmentation: it takes one
 * datagram where it refused several (it refuses those of a size that the way does not carry, too). */
static size_t pu_send(int fd, const uint8_t *data, size_t n, size_t segment, const void *name,
                      size_t name_bytes, int *offload, int *error) {
    size_t at = 0;
    int alone = 0;
    *error = 0;
    if (segment == 0) segment = n;
    while (at < n) {
        size_t one = n - at < segment ? n - at : segment;
        size_t some = *offload && !alone ? n - at : one;
        int failed = pu_send_batch(fd, data + at, some, segment, name, name_bytes);
        if (failed == -EINTR) continue;
        if (failed && some > one &&
            (failed == -EINVAL || failed == -EIO || failed == -EOPNOTSUPP ||
             failed == -ENOPROTOOPT)) {
            alone = 1;
            continue;
        }
        if (failed) {
            *error = -failed;
            return at;
        }
        at += some;
        if (alone) *offload = 0;
    }
    return at;
}

#endif
