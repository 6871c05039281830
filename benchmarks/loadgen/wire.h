/* A keep-alive connection to an S3 endpoint, plain or TLS, that never blocks once it is open. */
#ifndef WIRE_H
#define WIRE_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

struct target {
    char host[256], service[16];
    char authority[280]; /* for the Host header: without the port, where it is the usual one */
    SSL_CTX *tls;        /* NULL: plain */
    struct sockaddr_storage address;
    socklen_t address_bytes;
};

struct wire {
    int fd;
    SSL *ssl;
};

/* Reads `http[s]://HOST[:PORT]` and looks it up. NULL, or what is wrong. `ca`: a PEM file, or NULL
 * for what the system trusts. */
const char *target_setup(struct target *target, const char *url, const char *ca);

/* Connects, within 10 s, certificate checked. NULL, or what is wrong. */
const char *wire_open(struct wire *wire, const struct target *target);

/* Bytes moved; 0: not now; -1: the connection has ended or failed. `more`: there will be. */
ssize_t wire_write(struct wire *wire, const void *data, size_t count, int more);
ssize_t wire_read(struct wire *wire, void *data, size_t room);

/* Whether bytes came that epoll does not know of any more. */
int wire_holds_bytes(const struct wire *wire);

void wire_close(struct wire *wire);

#endif
