/* The yardstick of large GETs: the least that a server of these files has to do.
 *
 *     sender FOLDER SIZE_BYTES [CERTIFICATE KEY]
 *
 * It listens on 127.0.0.1, prints its port, and has a thread for each connection. Object N of
 * SIZE_BYTES lies in FOLDER as N.0, N.1 and N.2, in tiles of 256 KiB that go to the three in turn,
 * as data shards do. To answer a GET it reads a tile, takes its CRC32C, and sends it; then the
 * next. With a certificate it does so in TLS. It ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TILE = 256 << 10, FILES = 3, HEAD_MAX = 16 << 10 };

static const char *folder;
static uint64_t size_bytes;
static SSL_CTX *tls;
static volatile uint32_t checked; /* so that no CRC is left out */

struct peer {
    int fd;
    SSL *ssl;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static ssize_t come(struct peer *peer, void *data, size_t room) {
    return peer->ssl ? SSL_read(peer->ssl, data, (int)room) : recv(peer->fd, data, room, 0);
}

static int give(struct peer *peer, const char *data, size_t count, int more) {
    while (count > 0) {
        ssize_t sent = peer->ssl ? SSL_write(peer->ssl, data, (int)count)
                                 : send(peer->fd, data, count, more ? MSG_MORE : 0);
        if (sent <= 0) return 0;
        data += sent;
        count -= (size_t)sent;
    }
    return 1;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c(const char *data, size_t count) {
    uint64_t crc = 0xffffffff, word;
    for (; count >= 8; count -= 8, data += 8) {
        memcpy(&word, data, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    for (; count > 0; count--) crc = _mm_crc32_u8((uint32_t)crc, (uint8_t)*data++);
    return ~(uint32_t)crc;
}

/* Sends the bytes from `from` up to `to`, tile by tile. 0: something failed. */
static int send_range(struct peer *peer, uint64_t number, uint64_t from, uint64_t to, char *tile) {
    int files[FILES], all_sent = 1;
    char path[4096];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%llu.%d", folder, (unsigned long long)number, i);
        files[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
    for (uint64_t at = from; at < to && all_sent;) {
        uint64_t which = at / TILE, within = at % TILE, left = to - at;
        uint64_t count = left < TILE - within ? left : TILE - within;
        off_t place = (off_t)(which / FILES * TILE + within);
        all_sent = pread(files[which % FILES], tile, count, place) == (ssize_t)count;
        if (!all_sent) break;
        checked ^= crc32c(tile, count);
        all_sent = give(peer, tile, count, 0);
        at += count;
    }
    for (int i = 0; i < FILES; i++)
        if (files[i] >= 0) close(files[i]);
    return all_sent;
}

/* Answers the request whose head is `head`. 0: the connection is to end. */
static int answer(struct peer *peer, const char *head, char *tile) {
    const char *dash = NULL, *range = strcasestr(head, "\r\nrange: bytes=");
    unsigned long long from = 0, last = size_bytes - 1;
    char text[256];
    for (const char *at = head; *at && *at != '\r'; at++)
        if (strncmp(at, "object-", 7) == 0) dash = at + 7;
    if (strncmp(head, "GET ", 4) != 0 || dash == NULL) return 0;
    if (range && sscanf(range + 15, "%llu-%llu", &from, &last) != 2) return 0;
    if (last >= size_bytes || from > last) return 0;
    int bytes = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %llu\r\n\r\n",
                         range ? "206 Partial Content" : "200 OK", last - from + 1);
    return give(peer, text, (size_t)bytes, 1) &&
           send_range(peer, strtoull(dash, NULL, 10), from, last + 1, tile);
}

static void *serve(void *given) {
    struct peer peer = {(int)(intptr_t)given, NULL};
    char *head = malloc(HEAD_MAX + 1), *tile = malloc(TILE);
    size_t have = 0;
    int on = 1;
    if (head == NULL || tile == NULL) fail("malloc");
    setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (tls) {
        peer.ssl = SSL_new(tls);
        SSL_set_fd(peer.ssl, peer.fd);
    }
    if (!tls || SSL_accept(peer.ssl) == 1) {
        for (;;) {
            ssize_t count = come(&peer, head + have, HEAD_MAX - have);
            if (count <= 0) break;
            have += (size_t)count;
            head[have] = 0;
            if (strstr(head, "\r\n\r\n") == NULL) continue; /* one request at a time */
            have = 0;
            if (!answer(&peer, head, tile)) break;
        }
    }
    if (peer.ssl) SSL_free(peer.ssl);
    close(peer.fd);
    free(head);
    free(tile);
    return NULL;
}

static void *accept_all(void *given) {
    int listening = (int)(intptr_t)given;
    int fd;
    while ((fd = accept(listening, NULL, NULL)) >= 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd)) fail("pthread_create");
        pthread_detach(thread);
    }
    fail("accept");
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t bytes = sizeof address;
    pthread_t thread;
    if (argc != 3 && argc != 5) return 2;
    folder = argv[1];
    size_bytes = strtoull(argv[2], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5) {
        tls = SSL_CTX_new(TLS_server_method());
        if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, argv[3]) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, argv[4], SSL_FILETYPE_PEM) != 1) {
            fputs("sender: no certificate, or no key\n", stderr);
            return 1;
        }
    }
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listening, (struct sockaddr *)&address, bytes) || listen(listening, 4096) ||
        getsockname(listening, (struct sockaddr *)&address, &bytes))
        fail("listen");
    if (pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listening))
        fail("pthread_create");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
