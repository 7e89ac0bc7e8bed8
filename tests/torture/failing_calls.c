/* Fails one system call of a process: cc -shared -fPIC -o failing_calls.so failing_calls.c -ldl; LD_PRELOAD.
 *
 * FAIL_BELOW   only calls on files whose paths begin so
 * FAIL_CALLS   names out of write, read, fsync, rename, close, unlink, open, ftruncate, separated by commas
 * FAIL_AT      which of these calls, from 1; 0 only counts them
 * FAIL_HOW     the number of the error (errno.h); "short" does half of a write or read, and says so
 * FAIL_LOG     a file that grows by one byte with each such call
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static long count = 0;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static int is_named(const char *call) {
    const char *names = getenv("FAIL_CALLS");
    size_t length = strlen(call);
    for (const char *at = names; at && (at = strstr(at, call)); at += length)
        if ((at == names || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
    return 0;
}

static int is_below(const char *path) {
    const char *below = getenv("FAIL_BELOW");
    return below && path && strncmp(path, below, strlen(below)) == 0;
}

static int is_ours(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Whether this call is the one that fails. */
static int is_hit(void) {
    const char *at = getenv("FAIL_AT"), *log = getenv("FAIL_LOG");
    pthread_mutex_lock(&counting);
    long number = ++count;
    pthread_mutex_unlock(&counting);
    if (log) {
        long file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file >= 0) {
            syscall(SYS_write, file, ".", 1);
            syscall(SYS_close, file);
        }
    }
    return at && atol(at) == number;
}

static int is_short(void) {
    const char *how = getenv("FAIL_HOW");
    return how && strcmp(how, "short") == 0;
}

static int refuse(void) {
    const char *how = getenv("FAIL_HOW");
    errno = how ? atoi(how) : EIO;
    return -1;
}

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

#define REAL(type, name, ...)                        \
    static type (*real)(__VA_ARGS__);                \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define HIT_FILE(call, descriptor) (is_named(call) && is_ours(descriptor) && is_hit())
#define HIT_PATH(call, path) (is_named(call) && is_below(path) && is_hit())

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!HIT_FILE("write", file)) return real(file, data, size);
    return is_short() ? real(file, data, half(size)) : refuse();
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!HIT_FILE("write", file)) return real(file, data, size, at);
    return is_short() ? real(file, data, half(size), at) : refuse();
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

ssize_t read(int file, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    if (!HIT_FILE("read", file)) return real(file, data, size);
    return is_short() ? real(file, data, half(size)) : refuse();
}

ssize_t __read_chk(int file, void *data, size_t size, size_t room) {
    (void)room;
    return read(file, data, size);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    if (!HIT_FILE("read", file)) return real(file, data, size, at);
    return is_short() ? real(file, data, half(size), at) : refuse();
}

ssize_t pread(int file, void *data, size_t size, off_t at) { return pread64(file, data, size, at); }

ssize_t __pread64_chk(int file, void *data, size_t size, off64_t at, size_t room) {
    (void)room;
    return pread64(file, data, size, at);
}

int fsync(int file) {
    REAL(int, "fsync", int);
    return HIT_FILE("fsync", file) ? refuse() : real(file);
}

int ftruncate64(int file, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    return HIT_FILE("ftruncate", file) ? refuse() : real(file, size);
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

/* As Linux does, the descriptor is gone although close fails. */
int close(int file) {
    REAL(int, "close", int);
    if (!HIT_FILE("close", file)) return real(file);
    real(file);
    return refuse();
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return HIT_PATH("rename", to) ? refuse() : real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return HIT_PATH("unlink", path) ? refuse() : real(path);
}

int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return HIT_PATH("open", path) ? refuse() : real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open64(path, flags, mode);
}
