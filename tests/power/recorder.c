// Records what a program does to one directory, in the order in which it could rely on it.
//
// Loaded with LD_PRELOAD. CLAVIGER_RECORD_ROOT names the directory, CLAVIGER_RECORD_LOG the log, to which
// others may append, too. Whatever is done is recorded after it was done; a sync is recorded when
// it begins and when it has ended: it makes durable what was recorded before it began.
//
// A record, in the machine's byte order:
//
//   u32 length of the record   u8 kind   u32 thread   u64 inode   u64 number
//   u32 length of path         u32 length of other path           u32 length of data
//   path  other path  data
//
// Paths are relative to the root. What goes around the C library is not seen, as when a program makes
// a system call by itself to rename a file; hence it is recorded which file was found under which
// name, and who replays the log compares what comes out of it with the directory.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    ROOT = 'O',     // inode
    CREATE = 'C',   // inode, path
    OPEN = 'P',     // inode, path: there was such a file
    MKDIR = 'D',    // inode, path
    WRITE = 'W',    // inode, number: offset, data
    TRUNCATE = 'T', // inode, number: length
    RENAME = 'R',   // path, other path
    LINK = 'L',     // inode, path: the new one
    REMOVE = 'U',   // path
    BEGIN = 'S',    // inode
    END = 'E',      // inode
};

static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(const char *what) {
    dprintf(2, "recorder: %s: %s\n", what, strerror(errno));
    abort();
}

struct __attribute__((packed)) header {
    uint32_t length;
    uint8_t kind;
    uint32_t thread;
    uint64_t inode, number;
    uint32_t path, other, data;
};

static void record(enum kind kind, uint64_t inode, uint64_t number, const char *path,
                   const char *other, const void *data, size_t size) {
    int saved = errno;
    struct header header = {
        .kind = kind,
        .thread = (uint32_t)syscall(SYS_gettid),
        .inode = inode,
        .number = number,
        .path = path ? strlen(path) : 0,
        .other = other ? strlen(other) : 0,
        .data = size,
    };
    header.length = sizeof header + header.path + header.other + header.data;
    struct iovec parts[] = {
        {&header, sizeof header},
        {(void *)path, header.path},
        {(void *)other, header.other},
        {(void *)data, size},
    };
    // One call, so that no other record gets in between.
    if (syscall(SYS_writev, log_fd, parts, 4) != (long)header.length) die("cannot write the log");
    errno = saved;
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("CLAVIGER_RECORD_ROOT"), *log = getenv("CLAVIGER_RECORD_LOG");
    if (!directory || !log) return;
    if (!realpath(directory, root)) die("CLAVIGER_RECORD_ROOT");
    root_length = strlen(root);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) die("CLAVIGER_RECORD_LOG");
    struct stat status;
    if (stat(root, &status)) die("stat");
    record(ROOT, status.st_ino, 0, NULL, NULL, NULL, 0);
}

// The part of `full` below the root, or NULL.
static const char *below(const char *full) {
    if (log_fd < 0 || strncmp(full, root, root_length) || full[root_length] != '/') return NULL;
    return full + root_length + 1;
}

// What `path` in the directory `dir` is called below the root, or NULL.
static const char *inside(int dir, const char *path, char out[PATH_MAX]) {
    if (log_fd < 0) return NULL;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char link[64], at[PATH_MAX / 2] = "";
        if (dir == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        if (readlink(link, at, sizeof at - 1) < 0) return NULL;
        snprintf(out, PATH_MAX, "%s/%s", at, path);
    }
    return below(out);
}

// Whether `fd` is a file or directory of ours; then its inode is in `status`.
static int ours(int fd, struct stat *status) {
    if (log_fd < 0) return 0;
    int saved = errno;
    char link[64], full[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int is = readlink(link, full, sizeof full - 1) > 0 && (below(full) || !strcmp(full, root)) &&
             !fstat(fd, status) && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));
    errno = saved;
    return is;
}

static int opened(int fd, int flags, const char *path, int existed) {
    struct stat status;
    if (fd < 0 || !path || !ours(fd, &status)) return fd;
    if ((flags & O_TMPFILE) == O_TMPFILE) errno = ENOTSUP, die("O_TMPFILE");
    if ((flags & O_CREAT) && !existed) return record(CREATE, status.st_ino, 0, path, NULL, NULL, 0), fd;
    record(OPEN, status.st_ino, 0, path, NULL, NULL, 0);
    if (flags & O_TRUNC) record(TRUNCATE, status.st_ino, 0, NULL, NULL, NULL, 0);
    return fd;
}

#define OPENS(name, parameters, dir, call)                                                          \
    int name parameters {                                                                          \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                                              \
        char full[PATH_MAX];                                                                       \
        const char *mine = inside(dir, path, full);                                                \
        int existed = mine && !faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW);                    \
        errno = 0;                                                                                 \
        return opened(NEXT(name) call, flags, mine, existed);                                      \
    }
OPENS(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENS(openat, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))
OPENS(openat64, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))

static ssize_t written(int fd, const struct stat *status, off_t offset, const struct iovec *parts,
                       int count, ssize_t done) {
    size_t left = done > 0 ? done : 0;
    // At the end of the file if it is opened for appending: the position tells.
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - (off_t)left;
    for (int i = 0; i < count && left > 0; i++) {
        size_t size = parts[i].iov_len < left ? parts[i].iov_len : left;
        record(WRITE, status->st_ino, offset, NULL, NULL, parts[i].iov_base, size);
        offset += size, left -= size;
    }
    return done;
}

#define WRITES(name, parameters, call, offset, parts, count)                                       \
    ssize_t name parameters {                                                                      \
        struct stat status;                                                                        \
        ssize_t done = NEXT(name) call;                                                            \
        int saved = errno;                                                                         \
        if (done > 0 && ours(fd, &status)) written(fd, &status, offset, parts, count, done);       \
        errno = saved;                                                                             \
        return done;                                                                               \
    }
#define ONE (&(struct iovec){(void *)data, size})
WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), -1, ONE, 1)
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), at, ONE, 1)
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), at, ONE, 1)
WRITES(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), -1, parts, count)
WRITES(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), at, parts, count)

#define TRUNCATES(name, type)                                                                      \
    int name(int fd, type length) {                                                                \
        struct stat status;                                                                        \
        int result = NEXT(name)(fd, length);                                                       \
        if (!result && ours(fd, &status)) record(TRUNCATE, status.st_ino, length, NULL, NULL, NULL, 0); \
        return result;                                                                             \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define SYNCS(name)                                                                                \
    int name(int fd) {                                                                             \
        struct stat status;                                                                        \
        int mine = ours(fd, &status);                                                              \
        if (mine) record(BEGIN, status.st_ino, 0, NULL, NULL, NULL, 0);                            \
        int result = NEXT(name)(fd);                                                               \
        if (mine && !result) record(END, status.st_ino, 0, NULL, NULL, NULL, 0);                   \
        return result;                                                                             \
    }
SYNCS(fsync)
SYNCS(fdatasync)

static int renamed(int result, int from_dir, const char *from, int to_dir, const char *to) {
    char one[PATH_MAX], two[PATH_MAX];
    const char *mine = inside(from_dir, from, one), *theirs = inside(to_dir, to, two);
    if (result || (!mine && !theirs)) return result;
    if (!mine || !theirs) errno = EXDEV, die("a file moved in or out");
    record(RENAME, 0, 0, mine, theirs, NULL, 0);
    return result;
}

int rename(const char *from, const char *to) {
    return renamed(NEXT(rename)(from, to), AT_FDCWD, from, AT_FDCWD, to);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renamed(NEXT(renameat)(from_dir, from, to_dir, to), from_dir, from, to_dir, to);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return renamed(NEXT(renameat2)(from_dir, from, to_dir, to, flags), from_dir, from, to_dir, to);
}

static int made(int result, enum kind kind, int dir, const char *path) {
    char full[PATH_MAX];
    struct stat status;
    const char *mine = inside(dir, path, full);
    if (result || !mine) return result;
    if (lstat(full, &status)) die("stat");
    record(kind, status.st_ino, 0, mine, NULL, NULL, 0);
    return result;
}

int mkdir(const char *path, mode_t mode) { return made(NEXT(mkdir)(path, mode), MKDIR, AT_FDCWD, path); }
int mkdirat(int dir, const char *path, mode_t mode) { return made(NEXT(mkdirat)(dir, path, mode), MKDIR, dir, path); }
int link(const char *from, const char *to) { return made(NEXT(link)(from, to), LINK, AT_FDCWD, to); }
int linkat(int from_dir, const char *from, int dir, const char *to, int flags) {
    return made(NEXT(linkat)(from_dir, from, dir, to, flags), LINK, dir, to);
}

static int removed(int result, int dir, const char *path) {
    char full[PATH_MAX];
    const char *mine = inside(dir, path, full);
    if (!result && mine) record(REMOVE, 0, 0, mine, NULL, NULL, 0);
    return result;
}

int unlink(const char *path) { return removed(NEXT(unlink)(path), AT_FDCWD, path); }
int rmdir(const char *path) { return removed(NEXT(rmdir)(path), AT_FDCWD, path); }
int unlinkat(int dir, const char *path, int flags) { return removed(NEXT(unlinkat)(dir, path, flags), dir, path); }
