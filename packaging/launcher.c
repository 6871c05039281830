/* The beginning of dist/s3d: unpacks what follows it once, then becomes that (execveat).
 *
 * Nuitka's own one-file program stays as a parent: it forwards two signals of all, is not the
 * process that a service manager started, and lives on or dies apart from the server. This one
 * execs, so that there is one process, with the pid, signals and descriptors of any other program.
 *
 * dist/s3d, by packaging/onefile.py; integers are little-endian:
 *
 *     this program (ELF)
 *     payload      one zstd frame with a checksum: the contents of all files, in index order
 *     index        per file: u64 size, u16 is_executable, u16 path length, path (no NUL)
 *     trailer      "S3DONE01", u64 payload offset, u64 payload size, u64 index size,
 *                  u64 unpacked size, 16 bytes of the payload's SHA-256 as 32 hex digits
 *
 * Unpacked to DIR/predastore_unpacked/<id>, DIR being the first of these that works:
 * S3D_UNPACK_DIR (then no other), CACHE_DIRECTORY, XDG_CACHE_HOME, HOME/.cache, TMPDIR or /tmp
 * (there predastore_unpacked-<uid>). What lies in the folder is run: it must be ours, and nobody
 * else's to write to or to put another in its place, up to the root; its mode is made 0700. Files
 * are written into .new-*, which takes its name by rename when it is whole. At each start the tree
 * is compared with the index: every file has its size, as a power cut may have emptied some, all
 * is ours alone to write to, and nothing else is there. What was looked at is what is run: both go
 * by one descriptor of the folder, not by its path.
 *
 * A running s3d holds a shared flock on its folder. Whoever unpacks removes the folders, of older
 * versions and of unpackers that died, that nobody holds. DIR may be where data lies: the folder
 * has a name that no bucket can have (an underscore) and that nobody gives to data, and in it
 * nothing is removed but what has a name that is made here.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zstd.h>

#define FOLDER "predastore_unpacked"

enum { EX_DATAERR = 65, EX_UNAVAILABLE = 69, EX_CANTCREAT = 73, PATH_BYTES = 4096, NAME_BYTES = 512 };

struct trailer {
    char magic[8];
    uint64_t payload_offset, payload_bytes, index_bytes, unpacked_bytes;
    char id[32];
} __attribute__((packed));

struct entry {
    uint64_t bytes;
    uint16_t is_executable, path_bytes;
    char path[];
} __attribute__((packed));

static struct trailer trailer;
static const unsigned char *image; /* the whole file */
static const unsigned char *entries, *entries_end;
static char failures[2 * PATH_BYTES]; /* "DIR: reason, DIR: reason" */

static void damaged(const char *what) {
    fprintf(stderr, "s3d: this file is damaged (%s); fetch it again\n", what);
    exit(EX_DATAERR);
}

static void open_self(void) {
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) {
        fprintf(stderr, "s3d: /proc/self/exe can not be read (%s); mount /proc\n", strerror(errno));
        exit(EX_UNAVAILABLE);
    }
    uint64_t size = (uint64_t)about.st_size;
    if (size < sizeof trailer) damaged("too short");
    image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image == MAP_FAILED) damaged(strerror(errno));
    close(file);
    memcpy(&trailer, image + size - sizeof trailer, sizeof trailer);
    if (memcmp(trailer.magic, "S3DONE01", 8) != 0) damaged("it has no end");
    if (trailer.index_bytes > size || trailer.payload_bytes > size ||
        trailer.payload_offset > size ||
        trailer.payload_offset + trailer.payload_bytes + trailer.index_bytes + sizeof trailer !=
            size)
        damaged("its parts do not add up");
    entries = image + trailer.payload_offset + trailer.payload_bytes;
    entries_end = entries + trailer.index_bytes;
}

/* The entry at `at`, its path in `name`; NULL at the end. `at` moves on. */
static const struct entry *next_entry(const unsigned char **at, char name[NAME_BYTES]) {
    if (*at == entries_end) return NULL;
    const struct entry *found = (const struct entry *)*at;
    if ((size_t)(entries_end - *at) < sizeof *found ||
        (size_t)(entries_end - *at) - sizeof *found < found->path_bytes ||
        found->path_bytes >= NAME_BYTES)
        damaged("index");
    memcpy(name, found->path, found->path_bytes);
    name[found->path_bytes] = 0;
    *at += sizeof *found + found->path_bytes;
    return found;
}

static int is_ours_alone(const struct stat *about) {
    return about->st_uid == geteuid() && (about->st_mode & 022) == 0;
}

/* How many files are below a folder, whose descriptor it takes; -1 where something is not ours
 * alone, or is neither a file nor a folder. */
static long files_of(int folder) {
    struct stat about;
    DIR *list = fdopendir(folder);
    long count = list != NULL && fstat(folder, &about) == 0 && is_ours_alone(&about) ? 0 : -1;
    for (struct dirent *one; count >= 0 && (one = readdir(list)) != NULL;) {
        if (strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0) continue;
        long below = -1;
        if (fstatat(folder, one->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0) {
            if (S_ISREG(about.st_mode) && is_ours_alone(&about)) below = 1;
            if (S_ISDIR(about.st_mode)) {
                int inner = openat(folder, one->d_name,
                                   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (inner >= 0) below = files_of(inner);
            }
        }
        count = below < 0 ? -1 : count + below;
    }
    if (list != NULL) closedir(list);
    else close(folder);
    return count;
}

static int is_whole(int folder) {
    char name[NAME_BYTES];
    const struct entry *one;
    long count = 0;
    for (const unsigned char *at = entries; (one = next_entry(&at, name)) != NULL; count++) {
        struct stat about;
        if (fstatat(folder, name, &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode) ||
            (uint64_t)about.st_size != one->bytes)
            return 0;
    }
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return again >= 0 && files_of(again) == count;
}

/* Whether nobody but root and us can put another folder in the place of this one: each folder
 * above it is root's or ours, and others may not write there, or may not rename what is ours. */
static int is_in_a_safe_place(int folder) {
    struct stat below, about;
    int at = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), is_safe = at >= 0;
    if (!is_safe || fstat(at, &below) != 0) is_safe = 0;
    while (is_safe) {
        int above = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = above;
        if (at < 0 || fstat(at, &about) != 0) is_safe = 0;
        else if (about.st_ino == below.st_ino && about.st_dev == below.st_dev) break;
        else if (about.st_uid != 0 && about.st_uid != geteuid()) is_safe = 0;
        else if ((about.st_mode & 022) != 0 && (about.st_mode & S_ISVTX) == 0) is_safe = 0;
        below = about;
    }
    if (at >= 0) close(at);
    return is_safe;
}

static int write_all(int file, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t done = write(file, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return -1;
        data += done, bytes -= (size_t)done;
    }
    return 0;
}

static int create(int folder, const char *name, int is_executable) {
    char parent[NAME_BYTES];
    for (const char *slash = name; (slash = strchr(slash, '/')) != NULL; slash++) {
        memcpy(parent, name, (size_t)(slash - name));
        parent[slash - name] = 0;
        if (mkdirat(folder, parent, 0700) != 0 && errno != EEXIST) return -1;
    }
    return openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                  is_executable ? 0700 : 0600);
}

/* Writes every file below `folder`; -1 with errno. */
static int unpack(int folder) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    size_t room = ZSTD_DStreamOutSize();
    char *buffer = malloc(room), name[NAME_BYTES];
    if (context == NULL || buffer == NULL) return errno = ENOMEM, -1;
    ZSTD_inBuffer in = {image + trailer.payload_offset, trailer.payload_bytes, 0};
    ZSTD_outBuffer out = {buffer, 0, 0};
    size_t given = 0, more = 1;
    const struct entry *one;
    for (const unsigned char *at = entries; (one = next_entry(&at, name)) != NULL;) {
        int file = create(folder, name, one->is_executable);
        if (file < 0) return -1;
        for (uint64_t left = one->bytes; left > 0;) {
            if (given == out.pos) {
                if (more == 0) damaged("payload ends early");
                out.size = room, out.pos = given = 0;
                more = ZSTD_decompressStream(context, &out, &in);
                if (ZSTD_isError(more)) damaged(ZSTD_getErrorName(more));
                if (out.pos == 0 && in.pos == in.size) damaged("payload ends early");
                continue;
            }
            size_t part = out.pos - given < left ? out.pos - given : (size_t)left;
            if (write_all(file, buffer + given, part) != 0) return close(file), -1;
            given += part, left -= part;
        }
        if (close(file) != 0) return -1;
    }
    while (more != 0) { /* the checksum stands behind the last byte */
        out.size = room, out.pos = 0;
        more = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(more) || out.pos != 0 || (more != 0 && in.pos == in.size))
            damaged("checksum");
    }
    free(buffer);
    ZSTD_freeDCtx(context);
    return 0;
}

static void remove_tree(int parent, const char *name) {
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = folder < 0 ? NULL : fdopendir(folder);
    for (struct dirent *one; list != NULL && (one = readdir(list)) != NULL;) {
        if (strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0) continue;
        if (unlinkat(folder, one->d_name, 0) != 0) remove_tree(folder, one->d_name);
    }
    if (list != NULL) closedir(list);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* Whether a folder of this name is made here: an id, .new-PID-NANOSECONDS or .old-the-same. */
static int is_own(const char *name) {
    static const char digits[] = "0123456789", hex[] = "0123456789abcdef";
    if (name[0] != '.') return strlen(name) == sizeof trailer.id && name[strspn(name, hex)] == 0;
    if (strncmp(name, ".new-", 5) != 0 && strncmp(name, ".old-", 5) != 0) return 0;
    const char *pid = name + 5, *dash = pid + strspn(pid, digits);
    if (dash == pid || *dash != '-') return 0;
    const char *nanoseconds = dash + 1, *end = nanoseconds + strspn(nanoseconds, digits);
    return end != nanoseconds && *end == 0;
}

/* Removes the folders of our own making below `base` that no process holds. */
static void sweep(int base) {
    int again = openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    for (struct dirent *one; list != NULL && (one = readdir(list)) != NULL;) {
        if (!is_own(one->d_name)) continue;
        if (strncmp(one->d_name, trailer.id, sizeof trailer.id) == 0) continue;
        int folder = openat(base, one->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0) continue;
        if (flock(folder, LOCK_EX | LOCK_NB) == 0) remove_tree(base, one->d_name);
        close(folder);
    }
    if (list != NULL) closedir(list);
}

/* The folder `id` below `base`, held by a shared lock; -1 when it is absent or not whole. */
static int held(int base, const char *id) {
    int folder = openat(base, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    struct stat mine, named;
    if (folder < 0) return -1;
    if (flock(folder, LOCK_SH) == 0 && fstat(folder, &mine) == 0 &&
        fstatat(base, id, &named, AT_SYMLINK_NOFOLLOW) == 0 && mine.st_ino == named.st_ino &&
        is_whole(folder))
        return folder; /* not closed on exec: the server holds it while it runs */
    close(folder);
    return -1;
}

/* Unpacks into a folder of its own, which then becomes `id`; -1 with errno. */
static int make(int base, const char *id) {
    char fresh[64], old[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(fresh, sizeof fresh, ".new-%ld-%ld", (long)getpid(), (long)now.tv_nsec);
    snprintf(old, sizeof old, ".old-%ld-%ld", (long)getpid(), (long)now.tv_nsec);
    if (mkdirat(base, fresh, 0700) != 0) return -1;
    int folder = openat(base, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0 || flock(folder, LOCK_EX) != 0 || unpack(folder) != 0) {
        int reason = errno;
        remove_tree(base, fresh);
        if (folder >= 0) close(folder);
        return errno = reason, -1;
    }
    if (renameat(base, fresh, base, id) != 0) {
        int other = held(base, id); /* another process was quicker, or a damaged one is there */
        if (other < 0) {
            renameat(base, id, base, old);
            renameat(base, fresh, base, id);
        } else {
            remove_tree(base, fresh);
            close(other);
        }
    }
    close(folder);
    sweep(base);
    return 0;
}

static void failed(const char *place, const char *reason) {
    size_t used = strlen(failures);
    snprintf(failures + used, sizeof failures - used, "%s%s: %s", used ? ", " : "", place, reason);
}

/* Runs what lies below parent/name, unpacked first if need be; returns when that can not be. */
static void run_from(const char *parent, const char *name, char **argv) {
    char place[PATH_BYTES], id[sizeof trailer.id + 1] = {0};
    struct stat about;
    memcpy(id, trailer.id, sizeof trailer.id);
    snprintf(place, sizeof place, "%s/%s", parent, name);
    if ((mkdir(parent, 0700) != 0 && errno != EEXIST) || (mkdir(place, 0700) != 0 && errno != EEXIST))
        return failed(place, strerror(errno));
    int base = open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (base < 0 || fstat(base, &about) != 0) return failed(place, strerror(errno));
    if (!is_ours_alone(&about) || !is_in_a_safe_place(base)) {
        int is_ours = is_ours_alone(&about);
        close(base);
        return failed(place, is_ours ? "others may write above it" : "others may write there");
    }
    /* Others who may read it could hold a lock on it, and with that every start. */
    if ((about.st_mode & 077) != 0 && fchmod(base, 0700) != 0) {
        failed(place, strerror(errno));
        close(base);
        return;
    }
    int folder = held(base, id);
    if (folder < 0) flock(base, LOCK_EX); /* one unpacks; the others wait, and find it done */
    for (int attempt = 0; folder < 0 && attempt < 3; attempt++) {
        folder = held(base, id);
        if (folder < 0 && make(base, id) != 0) {
            failed(place, strerror(errno));
            close(base);
            return;
        }
        if (folder < 0) folder = held(base, id);
    }
    flock(base, LOCK_UN);
    if (folder >= 0) execveat(folder, "s3d", argv, environ, AT_SYMLINK_NOFOLLOW);
    failed(place, folder < 0 ? "it changes all the time" : strerror(errno));
    if (folder >= 0) close(folder);
    close(base);
}

int main(int argc, char **argv) {
    (void)argc;
    open_self();
    /* Nuitka's start aborts where the environment names a locale that is not there. */
    if (setlocale(LC_ALL, "") == NULL) setenv("LC_ALL", "C", 1);
    const char *only = getenv("S3D_UNPACK_DIR"), *home = getenv("HOME"), *temporary = getenv("TMPDIR");
    const char *named[] = {only, getenv("CACHE_DIRECTORY"), getenv("XDG_CACHE_HOME")};
    char below[PATH_BYTES], shared[64];
    for (size_t n = 0; n < (only && *only ? 1 : 3); n++)
        if (named[n] != NULL && named[n][0] == '/') run_from(named[n], FOLDER, argv);
    if (only && *only) {
        if (only[0] != '/') failed(only, "not an absolute path");
    } else {
        if (home != NULL && home[0] == '/') {
            snprintf(below, sizeof below, "%s/.cache", home);
            run_from(below, FOLDER, argv);
        }
        snprintf(shared, sizeof shared, FOLDER "-%ld", (long)geteuid());
        run_from(temporary != NULL && temporary[0] == '/' ? temporary : "/tmp", shared, argv);
    }
    fprintf(stderr,
            "s3d: can not unpack itself (%s); name a directory where it may write and run %llu MiB "
            "with S3D_UNPACK_DIR\n",
            failures, (unsigned long long)(trailer.unpacked_bytes >> 20) + 1);
    return EX_CANTCREAT;
}
