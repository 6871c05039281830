/* What two processes can move through UDP on this machine when every packet is encrypted by one
 * and decrypted by the other: segmentation and receive offload, AES-128-GCM, and nothing else.
 *
 *     udp_ceiling DATAGRAM_BYTES MEGABYTES     prints MB/s of plain text
 *
 * The receiver tells how much has come, and the sender keeps at most WINDOW under way, so that
 * nothing is dropped and both ends work all the time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { TAG = 16, COUNTER = 8, BATCH = 65000, SEGMENTS = 64, MESSAGES = 16, REPORT = 256 << 10 };
enum { WINDOW = 1 << 20, BUFFER = 4 << 20, STALLED_MS = 200 };

static const uint8_t KEY[16] = "a key for figure";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static EVP_CIPHER_CTX *context(int sealing) {
    EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
    if (made == NULL || !EVP_CipherInit_ex(made, EVP_aes_128_gcm(), NULL, KEY, NULL, sealing))
        fail("AES-128-GCM");
    return made;
}

/* The packet's counter stands before its text, and is its nonce. */
static void nonce(EVP_CIPHER_CTX *cipher, const uint8_t *packet, int sealing) {
    uint8_t iv[12] = {0};
    memcpy(iv + 4, packet, COUNTER);
    EVP_CipherInit_ex(cipher, NULL, NULL, NULL, iv, sealing);
}

static void seal(EVP_CIPHER_CTX *cipher, uint8_t *packet, const uint8_t *text, int bytes) {
    int n;
    nonce(cipher, packet, 1);
    EVP_EncryptUpdate(cipher, packet + COUNTER, &n, text, bytes);
    EVP_EncryptFinal_ex(cipher, packet + COUNTER + bytes, &n);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, TAG, packet + COUNTER + bytes);
}

static int opened(EVP_CIPHER_CTX *cipher, uint8_t *packet, int bytes) {
    int n, text = bytes - COUNTER - TAG;
    if (text < 0) return -1;
    nonce(cipher, packet, 0);
    EVP_DecryptUpdate(cipher, packet + COUNTER, &n, packet + COUNTER, text);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, TAG, packet + COUNTER + text);
    return EVP_DecryptFinal_ex(cipher, packet + COUNTER + text, &n) == 1 ? text : -1;
}

static int bound(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = BUFFER, on = 1;
    socklen_t length = sizeof *address;
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, length)) fail("bind");
    if (getsockname(fd, (struct sockaddr *)address, &length)) fail("getsockname");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on); /* without it, the next one is slower */
    return fd;
}

static void send_batch(int fd, uint8_t *batch, size_t bytes, uint16_t segment) {
    struct iovec piece = {batch, bytes};
    char control[CMSG_SPACE(sizeof segment)] = {0};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
    if (sendmsg(fd, &message, 0) < 0 && errno != ENOBUFS) fail("sendmsg");
}

static void sender(int fd, int datagram, uint64_t total) {
    static uint8_t batch[BATCH], text[BATCH];
    EVP_CIPHER_CTX *cipher = context(1);
    uint64_t counter = 0, sent = 0, came = 0;
    int plain = datagram - COUNTER - TAG, segments = BATCH / datagram;
    if (segments > SEGMENTS) segments = SEGMENTS;
    while (came < total) {
        while (sent - came < WINDOW) {
            for (int i = 0; i < segments; i++, counter++) {
                memcpy(batch + i * datagram, &counter, COUNTER);
                seal(cipher, batch + i * datagram, text + i * plain, plain);
            }
            send_batch(fd, batch, (size_t)segments * datagram, (uint16_t)datagram);
            sent += (uint64_t)segments * plain;
        }
        struct pollfd wanted = {fd, POLLIN, 0};
        if (poll(&wanted, 1, STALLED_MS) == 0) sent = came; /* something was dropped after all */
        while (recv(fd, &came, sizeof came, MSG_DONTWAIT) > 0) {}
    }
}

static uint64_t opened_batch(EVP_CIPHER_CTX *cipher, struct msghdr *message, uint8_t *data,
                             unsigned bytes) {
    int segment = (int)bytes;
    uint64_t text = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h))
        if (h->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(h), sizeof segment);
    for (unsigned at = 0; at < bytes; at += (unsigned)segment) {
        int size = bytes - at < (unsigned)segment ? (int)(bytes - at) : segment;
        int plain = opened(cipher, data + at, size);
        if (plain < 0) fail("a packet that does not decrypt");
        text += (uint64_t)plain;
    }
    return text;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void receiver(int fd, uint64_t total) {
    static uint8_t data[MESSAGES][1 << 16];
    static char control[MESSAGES][64];
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    EVP_CIPHER_CTX *cipher = context(0);
    uint64_t came = 0, told = 0;
    double began = 0;
    while (came < total) {
        for (int i = 0; i < MESSAGES; i++) {
            pieces[i] = (struct iovec){data[i], sizeof data[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1,
                                                  .msg_control = control[i],
                                                  .msg_controllen = sizeof control[i]};
        }
        int count = recvmmsg(fd, messages, MESSAGES, MSG_WAITFORONE, NULL);
        if (count < 0) fail("recvmmsg");
        if (came == 0) began = seconds();
        for (int i = 0; i < count; i++)
            came += opened_batch(cipher, &messages[i].msg_hdr, data[i], messages[i].msg_len);
        if (came - told < REPORT && came < total) continue;
        told = came;
        if (send(fd, &came, sizeof came, 0) < 0) fail("send");
    }
    printf("%.1f\n", (double)came / 1e6 / (seconds() - began));
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int datagram = atoi(argv[1]);
    uint64_t total = strtoull(argv[2], NULL, 10) * 1000000;
    struct sockaddr_in here, there;
    int in = bound(&here), out = bound(&there);
    if (connect(in, (struct sockaddr *)&there, sizeof there)) fail("connect");
    if (connect(out, (struct sockaddr *)&here, sizeof here)) fail("connect");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        sender(out, datagram, total);
        _exit(0);
    }
    receiver(in, total);
    fflush(stdout);
    waitpid(child, NULL, 0);
    return 0;
}
